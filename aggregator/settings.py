"""The daemon's settings: their form, and how one file becomes them.

Read once per start or reload; every problem is reported at once, with its line. Secrets are files,
never inline.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from msgspec import Meta, Struct, structs

from aggregator.logs import Format, Level
from aggregator.model.discovery import load_adapter
from aggregator.model.errors import ConfigError, Origin, Problem, Severity
from aggregator.model.policy import MergeMode
from aggregator.model.registry import AdapterSpec, AnnouncedRegistry, RegistryContext
from aggregator.quantity import Address, Size
from aggregator.registry.guard import GuardSettings
from aggregator.registry.mapping import MappingRules, validate_mapping
from aggregator.registry.settings import ABSENCE_GRACE, Handling, RegistrySettings
from aggregator.registry.sharing import MergeRule
from config.check import Report, check_host
from config.documents import Document, Position, field_path, read_documents
from config.duration import Duration
from config.mesh import (
    MeshConfig,
    Network,
    validate_mesh,
    validate_networks,
    without_unused,
)
from config.shape import decode_struct, suggest

P = ParamSpec("P")
T = TypeVar("T")
LoadAdapter = Callable[[str, Origin], AdapterSpec]


def about(text: str) -> Meta:
    """What a key is for: shown in the JSON Schema and in docs/settings.md."""
    return Meta(description=text)


class RegistryForm(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys that every registry takes beside those of its type."""

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"),
        about("Names the registry in logs, metrics and provenance; unique."),
    ]
    type: Annotated[str, about("The adapter that reads it.")]
    required: Annotated[
        bool, about("Whether readiness waits for its first full listing, up to `sync_timeout`.")
    ] = True
    sync_timeout: Annotated[
        Duration, about("After this long a required registry no longer holds readiness back.")
    ] = Duration(30)
    namespace: Annotated[
        str, about("The namespace of services that do not name one themselves.")
    ] = "default"
    export_to: Annotated[
        tuple[str, ...],
        about("The namespaces that see its services unless these say so: `*`, `.`, `~` or names."),
    ] = ("*",)
    locality: Annotated[
        str, about("The locality `region/zone/subzone` of endpoints that do not tell theirs.")
    ] = ""
    network: Annotated[str, about("The network of endpoints that do not tell theirs.")] = ""
    protocol: Annotated[
        str, about("The protocol of ports that tell none, neither by field nor by name.")
    ] = ""
    host_template: Annotated[
        str, about("How host names are made, for registries whose services have none.")
    ] = ""
    rules: Annotated[
        bool | None,
        about(
            "Whether its traffic rules are taken, or its services only; by default they are, but "
            "not those of remote clusters."
        ),
    ] = None
    cluster_id: Annotated[
        str, about("The cluster that its endpoints belong to, where there is one.")
    ] = ""
    deletion_grace: Annotated[
        Duration | None,
        about(
            "How long a service stays, without endpoints, that a listing lacks. "
            "10m where absence is the only sign of a deletion, else 0s."
        ),
    ] = None
    guard: Annotated[
        GuardSettings, about("When a loss that nobody ordered is held back, and for how long.")
    ] = GuardSettings()
    mapping: Annotated[
        MappingRules, about("What becomes of its services, endpoints and labels.")
    ] = MappingRules()


class TlsListen(Struct, frozen=True, forbid_unknown_fields=True):
    """ADS over TLS; the files are read again when they change."""

    address: Annotated[Address, about("Where to listen.")]
    cert: Annotated[str, about("File with the server's certificate chain, PEM.")]
    key: Annotated[str, about("File with its private key, PEM.")]
    client_ca: Annotated[
        str, about("File with the authorities that client certificates are verified against, PEM.")
    ] = ""
    require_client_cert: Annotated[
        bool, about("Whether clients without a certificate are refused; needs `client_ca`.")
    ] = False


class Listen(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the servers listen. A change takes a restart."""

    grpc: Annotated[Address, about("xDS in plaintext.")] = Address("127.0.0.1:15010")
    grpc_tls: Annotated[TlsListen | None, about("xDS over TLS; off unless given.")] = None
    http: Annotated[
        Address, about("Readiness, metrics and version; over loopback the debug views too.")
    ] = Address("127.0.0.1:15014")


class Debounce(Struct, frozen=True, forbid_unknown_fields=True):
    """How changes coalesce."""

    max: Annotated[
        Duration,
        about("The longest that a change waits for others; a lone change goes out at once."),
    ] = Duration(0.2)


class Push(Struct, frozen=True, forbid_unknown_fields=True):
    """How changes reach proxies."""

    debounce: Annotated[Debounce, about("How changes coalesce.")] = Debounce()
    write_timeout: Annotated[
        Duration, about("A stream that takes nothing for this long is closed.")
    ] = Duration(30)
    in_flight: Annotated[
        Size, about("Bytes that may be written but not yet taken, over all streams.")
    ] = Size(48 * 2**20)
    warm_wait: Annotated[
        Duration,
        about("How long routes to a new cluster wait until the proxy says that it is warm."),
    ] = Duration(15)
    separate_wait: Annotated[
        Duration,
        about("How long a type waits for those before it, where each has a stream of its own."),
    ] = Duration(1)


class State(Struct, frozen=True, forbid_unknown_fields=True):
    """The last good state of each registry, kept over restarts."""

    dir: Annotated[
        str,
        about(
            "Folder to keep it in. By default the service manager's STATE_DIRECTORY; nothing is "
            "kept where there is neither."
        ),
    ] = ""
    max_age: Annotated[
        Duration, about("State of registries that were last in sync longer ago is not used.")
    ] = Duration(86400)


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to standard error."""

    level: Annotated[Level, about("The least important events that are written.")] = Level.INFO
    format: Annotated[Format, about("`auto` is `console` on a terminal and `json` elsewhere.")] = (
        Format.AUTO
    )


Percent = Annotated[int, Meta(ge=0, le=100)]


class Merge(Struct, frozen=True, forbid_unknown_fields=True):
    """How registries share the hosts that several of them serve."""

    hosts: Annotated[
        tuple[str, ...],
        Meta(min_length=1),
        about("The hosts that it is for: names, or wildcards such as `*.shop.mesh` and `*`."),
    ]
    policy: Annotated[
        MergeMode,
        about(
            "`union`: all serve alike. `priority`: only the first that has a healthy endpoint. "
            "`failover`: the first, and the next as far as its endpoints fail. `weights`: each its "
            "share."
        ),
    ]
    registries: Annotated[
        tuple[str, ...],
        about(
            "For `priority` and `failover`: the order; those that are not named follow as declared."
        ),
    ] = ()
    weights: Annotated[
        dict[str, Percent],
        about("For `weights`: percent by registry, 100 in all; one that is not named gets none."),
    ] = {}

    @property
    def rule(self) -> MergeRule:
        """What the registry layer is told."""
        return MergeRule(self.hosts, self.policy, self.registries, tuple(self.weights.items()))


class SettingsForm(Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is written; its registries are decoded one by one, by type."""

    registries: Annotated[
        tuple[dict[str, Any], ...],
        Meta(min_length=1),
        about("The registries; their order is the precedence of definitions."),
    ]
    domain: Annotated[
        str, about("The domain of Kubernetes-style names, `<name>.<namespace>.svc.<domain>`.")
    ] = "cluster.local"
    mesh: Annotated[MeshConfig, about("Istio's MeshConfig.")] = MeshConfig()
    networks: Annotated[
        dict[str, Network], about("Istio's MeshNetworks: who is in which, and the ways into them.")
    ] = {}
    merge: Annotated[
        tuple[Merge, ...],
        about("How registries share hosts; the first entry for a host holds, `union` without one."),
    ] = ()
    listen: Annotated[Listen, about("Where the servers listen.")] = Listen()
    push: Annotated[Push, about("How changes reach proxies.")] = Push()
    state: Annotated[State, about("What is kept over restarts.")] = State()
    log: Annotated[Log, about("What is written to standard error.")] = Log()


class Settings(Struct, frozen=True):
    """What the daemon runs with. `file` is where it came from, None for the embedded default."""

    registries: tuple[RegistrySettings, ...]
    domain: str = "cluster.local"
    mesh: MeshConfig = MeshConfig()
    networks: Mapping[str, Network] = {}
    merge: tuple[MergeRule, ...] = ()
    listen: Listen = Listen()
    push: Push = Push()
    state: State = State()
    log: Log = Log()
    file: Path | None = None
    warnings: tuple[Problem, ...] = ()


def load_settings(file: Path, load: LoadAdapter = load_adapter) -> Settings:
    """Read *file*; raises ConfigError with everything that is wrong with it."""
    try:
        text = file.read_bytes()
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise ConfigError(Problem(Origin(str(file)), "", message)) from error
    return decode_settings(text, file, load)


def decode_settings(text: bytes, file: Path, load: LoadAdapter = load_adapter) -> Settings:
    """Decode the file's content; relative paths in it are relative to the folder of *file*."""
    documents = read_documents(text, str(file))
    if documents.problems:
        raise ConfigError(tuple(documents.problems))
    if len(documents.documents) != 1:
        message = f"expected one YAML document, found {len(documents.documents)}"
        raise ConfigError(Problem(Origin(str(file)), "", message))
    document = documents.documents[0]
    base = file.absolute().parent
    problems: list[Problem] = []
    mesh, unused = without_unused(document.data.get("mesh"), "mesh", document.position)
    data = document.data | ({"mesh": mesh} if mesh is not None else {})
    form = _collect(problems, decode_struct, data, SettingsForm, "", document.position)
    if form is not None:
        problems.extend(validate_mesh(form.mesh, "mesh", document.position))
        problems.extend(validate_networks(form.networks, document.position))
    tls = form.listen.grpc_tls if form is not None else None
    if tls is not None and tls.require_client_cert and not tls.client_ca:
        field = "listen.grpc_tls.require_client_cert"
        message = "client certificates can only be required with a `client_ca` to verify them"
        problems.append(Problem(document.position(field), field, message))
    registries = _registries(document, base, load, problems)
    if form is not None and len(registries) == len(form.registries):
        known = _known_registries(registries, load)
        problems.extend(_validate_merge(form.merge, known, document.position))
        if known is not None:
            known |= {each.context.cluster_id for each in registries}
            problems.extend(_unknown_sources(form.networks, known, document.position))
    if form is None or any(problem.severity is Severity.ERROR for problem in problems):
        raise ConfigError(tuple(sorted(set(problems))))
    problems.extend(unused)
    return Settings(
        registries=tuple(registries),
        domain=form.domain,
        mesh=form.mesh,
        networks=form.networks,
        merge=tuple(each.rule for each in form.merge),
        listen=_resolve_listen(form.listen, base),
        push=form.push,
        state=_resolve_state(form.state, base),
        log=form.log,
        file=file,
        warnings=tuple(problems),
    )


def decode_announced(
    item: AnnouncedRegistry, announcer: RegistrySettings, load: LoadAdapter = load_adapter
) -> RegistrySettings:
    """Decode the settings of a registry that another one found; not required unless it says so."""
    origin = item.origin if item.origin.source else announcer.context.origin
    data = {"required": False, **item.settings, "name": item.name, "type": item.type}
    base = Path(item.base_dir or announcer.context.base_dir)
    decoded = _registry(data, "", lambda _path: origin, base, announcer.context.domain, load)
    context = structs.replace(decoded.context, credential=item.credential)
    return structs.replace(decoded, context=context)


def embedded_settings(folder: Path, load: LoadAdapter = load_adapter) -> Settings:
    """The default without a file: one required registry that reads *folder*."""
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "does not exist"
        raise ConfigError(Problem(Origin(str(folder)), "", problem))
    return Settings(registries=(files_registry("files", folder, load),))


def files_registry(name: str, path: Path, load: LoadAdapter = load_adapter) -> RegistrySettings:
    """A registry that reads a folder or file and has the defaults for the rest."""
    data: dict[str, Any] = {"name": name, "type": "files", "path": str(path.absolute())}
    return lone_registry(data, Origin(str(path)), path.absolute(), load)


def lone_registry(
    data: Mapping[str, Any], origin: Origin, base: Path, load: LoadAdapter = load_adapter
) -> RegistrySettings:
    """A registry by the keys that a settings file would give it, without such a file."""
    return _registry(data, "", lambda _path: origin, base, "cluster.local", load)


def override(settings: Settings, *, grpc: str | None, http: str | None) -> Settings:
    """Put the addresses of the command line in place of the file's."""
    listen = settings.listen
    if grpc is not None:
        listen = structs.replace(listen, grpc=Address(grpc))
    if http is not None:
        listen = structs.replace(listen, http=Address(http))
    return structs.replace(settings, listen=listen)


def _known_registries(
    registries: Sequence[RegistrySettings], load: LoadAdapter
) -> frozenset[str] | None:
    """The names of all registries; None if some announce others, which may have any name."""
    if any(load(each.type, each.context.origin).announced for each in registries):
        return None
    return frozenset(each.name for each in registries)


def _unknown_sources(
    networks: Mapping[str, Network], known: frozenset[str], position: Position
) -> Iterator[Problem]:
    """Warn of networks that are to be those of registries which there are not."""
    for name, network in networks.items():
        for index, each in enumerate(network.endpoints):
            if each.from_registry and each.from_registry not in known:
                path = f"{field_path('networks', name)}.endpoints[{index}].fromRegistry"
                message = f"no registry or cluster is named {each.from_registry!r}"
                yield Problem(position(path), path, message, Severity.WARNING)


def _validate_merge(
    entries: Iterable[Merge], known: frozenset[str] | None, position: Position
) -> list[Problem]:
    """Demand of each entry what its policy needs, and nothing that it does not heed."""
    report = Report(Origin())
    for index, merge in enumerate(entries):
        path = f"merge[{index}]"
        for number, host in enumerate(merge.hosts):
            check_host(report, f"{path}.hosts[{number}]", host, wildcard=True)
        ordered = merge.policy in (MergeMode.PRIORITY, MergeMode.FAILOVER)
        if merge.registries and not ordered:
            report.error(f"{path}.registries", f"policy {merge.policy} has no order")
        if len(set(merge.registries)) < len(merge.registries):
            report.error(f"{path}.registries", "a registry is named twice")
        named = {f"{path}.registries[{n}]": name for n, name in enumerate(merge.registries)}
        named |= {field_path(f"{path}.weights", name): name for name in merge.weights}
        for where, name in named.items():
            if known is not None and name not in known:
                report.error(where, f"no registry is named {name!r}{suggest(name, tuple(known))}")
        if merge.policy is not MergeMode.WEIGHTS:
            if merge.weights:
                report.error(f"{path}.weights", f"policy {merge.policy} has no weights")
        elif sum(merge.weights.values()) != 100:
            found = sum(merge.weights.values())
            report.error(f"{path}.weights", f"expected 100 percent in all, found {found}")
    return [structs.replace(each, origin=position(each.path)) for each in report.problems]


def _registries(
    document: Document, base: Path, load: LoadAdapter, problems: list[Problem]
) -> list[RegistrySettings]:
    """Decode every entry, so that one that is wrong does not hide the next one's problems."""
    listed = document.data.get("registries")
    domain = str(document.data.get("domain", "cluster.local"))
    found: list[RegistrySettings] = []
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        path = f"registries[{index}]"
        if not isinstance(entry, dict):
            continue  # The form has reported it.
        place = document.position
        registry = _collect(problems, _registry, entry, path, place, base, domain, load)
        if registry is None:
            continue
        if any(registry.name == other.name for other in found):
            where = f"{path}.name"
            message = f"another registry is named {registry.name!r}"
            problems.append(Problem(document.position(where), where, message))
        found.append(registry)
    return found


def _registry(
    data: Mapping[str, Any], path: str, place: Position, base: Path, domain: str, load: LoadAdapter
) -> RegistrySettings:
    """Split the keys that every registry takes from those of its type, and decode both."""
    common = {field.encode_name for field in structs.fields(RegistryForm)}
    problems: list[Problem] = []
    mine = {key: value for key, value in data.items() if key in common}
    form = _collect(problems, decode_struct, mine, RegistryForm, path, place)
    if not isinstance(data.get("type"), str):
        raise ConfigError(tuple(problems))
    where = field_path(path, "type")
    try:
        spec = load(data["type"], place(where))
    except ConfigError as error:
        told = tuple(structs.replace(problem, path=where) for problem in error.problems)
        raise ConfigError((*problems, *told)) from error
    own = {field.encode_name for field in structs.fields(spec.settings)}
    for key in data.keys() - common - own:
        where = field_path(path, key)
        message = f"unknown field {key!r}{suggest(key, (*common, *own))}"
        problems.append(Problem(place(where), where, message))
    rest = {key: value for key, value in data.items() if key in own}
    settings = _collect(problems, decode_struct, rest, spec.settings, path, place)
    if data.get("host_template") and not spec.names_hosts:
        where = field_path(path, "host_template")
        message = f"a registry of type {spec.name!r} tells whole host names"
        problems.append(Problem(place(where), where, message))
    if settings is not None:
        problems += _own_problems(spec, settings, path, place, base, domain, load)
    for where, message in validate_mapping(form.mapping) if form is not None else ():
        where = f"{field_path(path, 'mapping')}.{where}"
        problems.append(Problem(place(where), where, message))
    if form is None or settings is None or problems:
        raise ConfigError(tuple(problems))
    return _registry_settings(form, spec, settings, base, domain, place(path))


def _own_problems(
    spec: AdapterSpec,
    settings: Struct,
    path: str,
    place: Position,
    base: Path,
    domain: str,
    load: LoadAdapter,
) -> Iterator[Problem]:
    """What is wrong with settings of a type whose fields are right one by one."""
    for own, message in spec.validate(settings) if spec.validate else ():
        where = f"{path}.{own}".strip(".")
        yield Problem(place(where), where, message)
    sections = spec.announced(settings) if spec.announced else {}
    for own, (type_, keys) in sections.items():
        where = f"{path}.{own}".strip(".")
        found: list[Problem] = []
        named = {**keys, "name": "announced", "type": type_}
        _collect(found, _registry, named, where, place, base, domain, load)
        yield from found


def _registry_settings(
    form: RegistryForm, spec: AdapterSpec, own: Struct, base: Path, domain: str, origin: Origin
) -> RegistrySettings:
    context = RegistryContext(
        name=form.name,
        cluster_id=form.cluster_id or (form.name if spec.is_cluster else ""),
        domain=domain,
        namespace=form.namespace,
        export_to=form.export_to,
        locality=form.locality,
        network=form.network,
        protocol=form.protocol,
        host_template=form.host_template,
        rules=spec.gives_rules if form.rules is None else form.rules,
        base_dir=str(base),
        origin=origin,
    )
    return RegistrySettings(
        name=form.name,
        type=spec.name,
        context=context,
        adapter=own,
        required=form.required,
        sync_timeout=form.sync_timeout,
        handling=Handling(form.mapping, form.guard, _grace(form, spec)),
    )


def _grace(form: RegistryForm, spec: AdapterSpec) -> float:
    if form.deletion_grace is not None:
        return form.deletion_grace
    return 0.0 if spec.tells_deletions else ABSENCE_GRACE


def _resolve_state(state: State, base: Path) -> State:
    """Make the folder independent of the working directory."""
    return structs.replace(state, dir=str(base / state.dir)) if state.dir else state


def _resolve_listen(listen: Listen, base: Path) -> Listen:
    """Make the certificates' paths independent of the working directory."""
    tls = listen.grpc_tls
    if tls is None:
        return listen
    paths = {name: getattr(tls, name) for name in ("cert", "key", "client_ca")}
    whole = {name: str(base / path) for name, path in paths.items() if path}
    return structs.replace(listen, grpc_tls=structs.replace(tls, **whole))


def _collect(
    problems: list[Problem], decode: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """What *decode* gives; None if it cannot, its problems added to those found so far."""
    try:
        return decode(*args, **kwargs)
    except ConfigError as error:
        problems.extend(error.problems)
        return None
