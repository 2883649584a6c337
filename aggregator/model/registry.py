"""The contract between an adapter and the aggregator.

An adapter tells what its registry knows, shard by shard, and nothing else: diffing, merging,
keeping the last good state and back-off are the aggregator's work. See docs/adapters.md.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any
from typing import Protocol as Interface

from msgspec import Struct

from aggregator.model.config import Config
from aggregator.model.errors import Origin, Problem
from aggregator.model.secret import Redacted, Secret
from aggregator.model.service import NOWHERE, Endpoint, Labels, Locality, Service, Workload
from aggregator.model.store import OpenStore


class Content(StrEnum):
    """The kinds of content that a registry may give."""

    SERVICES = "services"
    WORKLOADS = "workloads"
    RULES = "rules"
    PLACES = "places"
    REGISTRIES = "registries"
    SECRETS = "secrets"


class ShardKey(Struct, frozen=True, order=True):
    """What commits as a whole: one kind of content of one scope of one registry.

    The scope is a file, a datacenter, a namespace or a key prefix, as the adapter chooses; it must
    be stable over restarts.
    """

    registry: str
    scope: str
    content: Content


class ServiceItem(Struct, frozen=True):
    """What one scope knows of one service: its definition, its endpoints, or both.

    An EndpointSlice in a file of its own is an item without `service`; the aggregator unites what
    belongs to one (namespace, host).
    """

    namespace: str
    host: str
    service: Service | None = None
    endpoints: tuple[Endpoint, ...] = ()


class Namespace(Struct, frozen=True):
    """A namespace's labels, as its platform tells them."""

    name: str
    labels: Labels = ()


class NetworkGateway(Struct, frozen=True):
    """A way into a network from the others.

    `address` is an IP address or a host name. `cluster_id` is the cluster whose endpoints it leads
    to, "" for any of the network's. Without a `locality` it counts as being where most of what is
    behind it is.
    """

    network: str
    address: str
    port: int
    cluster_id: str = ""
    locality: Locality = NOWHERE


class AnnouncedRegistry(Struct, frozen=True):
    """Settings of a registry that another one found; the supervisor starts, swaps and ends it.

    `credential` reaches its adapter as `RegistryContext.credential`, and never a settings struct.
    Relative paths in either start at `base_dir`, or where those of the announcer do. Of several
    with one name the oldest counts: `created` is seconds since the epoch, 0 where nothing tells.
    One that is `remembered` was announced to an earlier process, and is not run: its credential is
    not known, since only `settings` outlive a process.
    """

    name: str
    type: str
    settings: Mapping[str, Any]
    credential: Redacted = Redacted()
    base_dir: str = ""
    created: float = 0.0
    origin: Origin = Origin()
    remembered: bool = False


Item = ServiceItem | Workload | Config | Namespace | NetworkGateway | AnnouncedRegistry | Secret

OnSecrets = Callable[[Mapping[str, Secret], Collection[str]], None]
"""Takes all secrets of a registry by key, and the keys of those that it has deleted explicitly
since it was called last. Must not feed a sink.
"""


class RegistrySink(Interface):
    """Takes what an adapter learns. All calls are from the event loop's thread and return at
    once.
    """

    def replace(
        self,
        shard: ShardKey,
        items: Mapping[str, Item],
        *,
        revision: str = "",
        explicit: bool = False,
    ) -> None:
        """Install a full listing of the shard: items that it lacks are gone. Keys are the adapter's
        own.

        The loss guard may hold it, unless it is *explicit*: somebody's edit, which took out what it
        lacks on purpose.
        """

    def update(
        self, shard: ShardKey, key: str, item: Item | None, *, expired: bool = False
    ) -> None:
        """Install one item between listings; None says that the registry deleted it.

        *expired* says that nobody took out what the item now lacks: a lease ran out, a check
        failed. That is believed of a few, but judged when it befalls many.
        """

    def drop(self, shard: ShardKey) -> None:
        """The registry says that the whole scope was deleted (an unlinked file): its items go at
        once.
        """

    def retain(self, scopes: Collection[str]) -> None:
        """A full listing of the registry's scopes: the others are gone.

        Unlike `drop` this is mere absence, which the loss guard judges. A scope that ends in a
        slash stands for all below it, for folders that cannot be looked into.
        """

    def report(self, scope: str, problems: Sequence[Problem]) -> None:
        """Install the scope's present problems; an empty sequence clears them. Logged once each.

        Nothing to report is a success, too: whoever hears nothing new for long shows by it that
        the registry still answers.
        """

    def follow_secrets(self, registry: str, on_secrets: OnSecrets) -> None:
        """Have *on_secrets* called with all secrets that another registry tells, now if it has told
        any listing of them, even an empty one, and whenever they are others than before.

        Ends with this run of the adapter.
        """

    def synced(self) -> None:
        """The first full listing of every scope is in; called once after each (re)start of the
        adapter.

        Scopes of an earlier run that this one neither listed nor reported problems of are gone,
        as with `retain`.
        """


class Adapter(Interface):
    """A live source of services, workloads, rules, places or further registries."""

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* until cancelled.

        Raises `AdapterUnavailableError` or `AdapterRejectedError` to be started again after a
        back-off; what the sink already has stays meanwhile.
        """


class RegistryContext(Struct, frozen=True, kw_only=True):
    """What the aggregator gives every adapter: the registry's common settings, resolved.

    `namespace`, `export_to`, `locality`, `network` and `protocol` are the defaults for items that
    do not say themselves. `credential` is what an announcing registry read for this one (for a
    cluster, its kubeconfig), and empty for those of the settings file.
    """

    name: str
    cluster_id: str
    domain: str = "cluster.local"
    namespace: str = "default"
    export_to: tuple[str, ...] = ("*",)
    locality: str = ""
    network: str = ""
    protocol: str = ""
    host_template: str = ""
    rules: bool = True
    base_dir: str = "."
    credential: Redacted = Redacted()
    origin: Origin = Origin()


class AdapterSpec(Struct, frozen=True):
    """Declares an adapter: its name in the settings, the struct of its own settings, and how one is
    made.

    `settings` is a `msgspec.Struct` type; `validate` tells the paths of its fields that do not go
    together, and why. `announced` tells the sections of it that are keys of registries of another
    type, by path, with that type: they are decoded with the file. `extra` is the distribution's
    extra that brings its libraries, if any. `names_hosts` says that it makes host names itself, by
    the registry's `host_template`; `is_cluster` that endpoints are of a cluster, called like the
    registry unless told otherwise. `longest_wait` bounds the back-off, in seconds; it is short
    where asking again costs the registry nothing. `tells_deletions` is false where being absent
    from a listing is the only sign of a deletion, so that a service stays for a while without
    endpoints. `gives_rules` is whether its rules count unless the registry's settings say so.
    `open_store` connects to it for writing, where that can be.
    """

    name: str
    settings: type[Struct]
    create: Callable[[RegistryContext, Any], Adapter]
    extra: str = ""
    names_hosts: bool = False
    is_cluster: bool = False
    longest_wait: float = 60.0
    tells_deletions: bool = True
    gives_rules: bool = True
    validate: Callable[[Any], Iterable[tuple[str, str]]] | None = None
    announced: Callable[[Any], Mapping[str, tuple[str, Mapping[str, Any]]]] | None = None
    open_store: Callable[[RegistryContext, Any], OpenStore] | None = None
