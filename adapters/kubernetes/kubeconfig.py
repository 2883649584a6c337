"""How to reach an API server, and as whom: out of a kubeconfig, or of a pod's own service account.

Reads files and makes no connection. No message here quotes a credential.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct, field

from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.secret import Redacted
from config.documents import Document, Position, read_documents
from config.shape import decode_struct, suggest

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every pod finds its token and the cluster's authorities."""


class ExecCommand(Struct, frozen=True):
    """A program that prints a credential, in the form of Kubernetes' ExecCredential."""

    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    api_version: str = "client.authentication.k8s.io/v1"
    cluster_info: bool = False
    folder: str = "."


class Access(Struct, frozen=True, kw_only=True):
    """Where an API server is and how one gets in. Equal if nothing of that differs."""

    server: str
    ca: bytes = b""
    insecure: bool = False
    server_name: str = ""
    proxy: str = ""
    certificate: Redacted = Redacted()
    key: Redacted = Redacted()
    token: Redacted = Redacted()
    exec: ExecCommand | None = None
    impersonate: tuple[tuple[str, str], ...] = ()


class _Cluster(Struct, frozen=True, rename="kebab"):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: Any = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _ExecVariable(Struct, frozen=True):
    name: str
    value: Any = None


class _Exec(Struct, frozen=True, rename="camel"):
    command: str
    api_version: str
    args: tuple[str, ...] = ()
    env: tuple[_ExecVariable, ...] = ()
    provide_cluster_info: bool = False


class _User(Struct, frozen=True, rename="kebab"):
    token: Any = None
    token_file: str = field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: Any = None
    client_key: str = ""
    client_key_data: Any = None
    username: Any = None
    auth_provider: Any = None
    exec: _Exec | None = None
    as_: str = field(default="", name="as")
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()


class _Context(Struct, frozen=True):
    cluster: str
    user: str = ""


class _NamedCluster(Struct, frozen=True):
    name: str
    cluster: _Cluster


class _NamedUser(Struct, frozen=True):
    name: str
    user: _User = _User()


class _NamedContext(Struct, frozen=True):
    name: str
    context: _Context


class _Kubeconfig(Struct, frozen=True, rename="kebab"):
    clusters: tuple[_NamedCluster, ...] = ()
    users: tuple[_NamedUser, ...] = ()
    contexts: tuple[_NamedContext, ...] = ()
    current_context: str = ""


def decode_kubeconfig(
    text: bytes, source: str, base: Path, *, context: str = "", allow_exec: bool = False
) -> Access:
    """Decode one context of a kubeconfig, the current one unless *context* names another.

    Relative paths in it start at *base*; what they name is read. Raises ConfigError with all that
    is wrong.
    """
    documents = read_documents(text, source)
    if documents.problems:
        raise ConfigError(documents.problems)
    if len(documents.documents) != 1:
        raise _error(Origin(source), "", "expected a kubeconfig, found no object")
    return _Reader(documents.documents[0], base, allow_exec=allow_exec).access(context)


def in_cluster(
    environment: Mapping[str, str], origin: Origin, folder: Path = SERVICE_ACCOUNT
) -> Access:
    """The access of the pod that we run in. Raises ConfigError if we do not run in one."""
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        message = "required outside of a Kubernetes cluster: KUBERNETES_SERVICE_HOST is not set"
        raise _error(origin, "kubeconfig", message)
    try:
        token = (folder / "token").read_bytes().strip()
        ca = (folder / "ca.crt").read_bytes()
    except OSError as error:
        message = f"the pod's service account cannot be read: {_reason(error)}"
        raise _error(origin, "", message) from error
    address = f"[{host}]" if ":" in host else host
    return Access(server=f"https://{address}:{port}", ca=ca, token=Redacted(token))


def _error(origin: Origin, path: str, message: str) -> ConfigError:
    return ConfigError(Problem(origin, path, message))


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.strerror else str(error)


class _Reader:
    """Reads what one document names, and collects what is wrong with it."""

    def __init__(self, document: Document, base: Path, *, allow_exec: bool) -> None:
        self._document: Final = document
        self._place: Final[Position] = document.position
        self._base: Final = base
        self._allow_exec: Final = allow_exec
        self._problems: list[Problem] = []

    def access(self, wanted: str) -> Access:
        """The access of one context."""
        config = decode_struct(self._document.data, _Kubeconfig, "", self._place)
        name = wanted or config.current_context
        if not name and len(config.contexts) == 1:
            name = config.contexts[0].name
        if not name:
            raise _error(self._place(""), "current-context", "required, unless a context is named")
        contexts = {each.name: each.context for each in config.contexts}
        chosen = contexts.get(name)
        if chosen is None:
            message = f"there is no context {name!r}{suggest(name, tuple(contexts))}"
            raise _error(self._place("contexts"), "contexts", message)
        clusters = [each.name for each in config.clusters]
        users = [each.name for each in config.users]
        where = f"contexts[{list(contexts).index(name)}].context"
        cluster = self._find(clusters, chosen.cluster, f"{where}.cluster")
        user = self._find(users, chosen.user, f"{where}.user") if chosen.user else None
        if cluster is None or (chosen.user and user is None):
            raise ConfigError(tuple(self._problems))
        access = self._join(
            config.clusters[cluster].cluster,
            f"clusters[{cluster}].cluster",
            _User() if user is None else config.users[user].user,
            f"users[{user}].user",
        )
        if self._problems:
            raise ConfigError(tuple(self._problems))
        return access

    def _find(self, names: list[str], name: str, where: str) -> int | None:
        if name in names:
            return names.index(name)
        self._wrong(where, f"{name!r} is not in the file{suggest(name, tuple(names))}")
        return None

    def _join(self, cluster: _Cluster, at: str, user: _User, user_at: str) -> Access:
        self._check_server(cluster.server, f"{at}.server")
        if cluster.proxy_url and not _is_address(cluster.proxy_url):
            self._wrong(f"{at}.proxy-url", "expected an http or https proxy")
        if cluster.tls_server_name and not _is_host(cluster.tls_server_name):
            found = repr(cluster.tls_server_name)
            self._wrong(f"{at}.tls-server-name", f"expected a host name, found {found}")
        certificate = self._content(user, user_at, "client-certificate")
        key = self._content(user, user_at, "client-key")
        if bool(certificate) != bool(key):
            self._wrong(user_at, "expected both a client certificate and its key, or neither")
        return Access(
            server=cluster.server.rstrip("/"),
            ca=self._content(cluster, at, "certificate-authority"),
            insecure=cluster.insecure_skip_tls_verify,
            server_name=cluster.tls_server_name,
            proxy=cluster.proxy_url,
            certificate=Redacted(certificate),
            key=Redacted(key),
            token=Redacted(self._token(user, user_at)),
            exec=self._exec(user, user_at),
            impersonate=self._impersonation(user, user_at),
        )

    def _check_server(self, server: str, at: str) -> None:
        if "@" in server:
            # It may be a password, and no message quotes that.
            self._wrong(at, "expected an address without a user; that belongs to `users`")
        elif not _is_address(server) or "?" in server or "#" in server:
            self._wrong(at, f"expected an address such as https://10.0.0.1:6443, found {server!r}")

    def _token(self, user: _User, at: str) -> bytes:
        for name in ("username", "auth_provider"):
            if getattr(user, name) is not None:
                where = f"{at}.{name.replace('_', '-')}"
                self._wrong(where, "not supported; use a token, a client certificate or exec")
        if user.token is not None and not isinstance(user.token, str):
            self._wrong(f"{at}.token", "expected text")
        elif user.token:
            return self._of_header(user.token.strip().encode(), f"{at}.token")
        if user.token_file:
            where = f"{at}.tokenFile"
            return self._of_header(self._file(user.token_file, where).strip(), where)
        return b""

    def _of_header(self, token: bytes, at: str) -> bytes:
        """A token goes into the header of each request, which takes no other bytes."""
        if is_visible(token):
            return token
        self._wrong(at, "expected a token of visible ASCII characters, on one line")
        return b""

    def _exec(self, user: _User, at: str) -> ExecCommand | None:
        if user.exec is None:
            return None
        if not self._allow_exec:
            message = f"{user.exec.command!r} is not run unless the registry's `allow_exec` is true"
            self._wrong(f"{at}.exec", message)
        variables: list[tuple[str, str]] = []
        for index, each in enumerate(user.exec.env):
            if isinstance(each.value, str):
                variables.append((each.name, each.value))
            else:
                self._wrong(f"{at}.exec.env[{index}].value", "expected text")
        return ExecCommand(
            user.exec.command,
            user.exec.args,
            tuple(variables),
            user.exec.api_version,
            user.exec.provide_cluster_info,
            str(self._base),
        )

    def _content(self, holder: Struct, at: str, name: str) -> bytes:
        """What a field holds in base64, else the content of the file that its brother names."""
        attribute = name.replace("-", "_")
        data = getattr(holder, f"{attribute}_data")
        path: str = getattr(holder, attribute)
        if data is None:
            return self._file(path, f"{at}.{name}") if path else b""
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, TypeError, ValueError):
            self._wrong(f"{at}.{name}-data", "expected text in base64")
            return b""

    def _file(self, path: str, at: str) -> bytes:
        try:
            return (self._base / path).read_bytes()
        except OSError as error:
            self._wrong(at, f"cannot be read: {_reason(error)}")
        except ValueError:
            self._wrong(at, "expected a path of a file; this one has a zero byte")
        return b""

    def _impersonation(self, user: _User, at: str) -> tuple[tuple[str, str], ...]:
        """The headers by which one acts as somebody else."""
        headers = [("Impersonate-User", user.as_), ("Impersonate-Uid", user.as_uid)]
        headers += (("Impersonate-Group", group) for group in user.as_groups)
        if not all(value.isprintable() for _, value in headers):
            self._wrong(f"{at}.as", "expected names on one line, for a user, its uid and groups")
        return tuple((name, value) for name, value in headers if value)

    def _wrong(self, path: str, message: str) -> None:
        self._problems.append(Problem(self._place(path), path, message))


def is_visible(token: bytes) -> bool:
    """Whether it is visible ASCII characters alone."""
    return all(0x20 < byte < 0x7F for byte in token)


def _is_address(text: str) -> bool:
    """Whether one can ask for a connection to it."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        return bool(usable) and _is_host(parts.hostname or "")
    except ValueError:
        return False


def _is_host(text: str) -> bool:
    """Whether it can be looked up: no part of a name is empty, or longer than 63 bytes."""
    try:
        text.removesuffix(".").encode("idna")
    except UnicodeError:
        return False
    return text != "." and text.isprintable() and " " not in text
