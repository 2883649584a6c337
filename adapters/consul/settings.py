"""The settings of a Consul registry, as people write them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from config.duration import Duration

ALL: Final = "*"

AgentAddress = Annotated[
    str, Meta(pattern=r"^(https?://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[1-9][0-9]{0,4}$")
]


class Consistency(StrEnum):
    """How up to date an answer must be; the words are Consul's."""

    STALE = "stale"
    DEFAULT = "default"
    CONSISTENT = "consistent"


class Status(StrEnum):
    """The state of an instance: that of the worst of its checks."""

    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"


class ConsulTls(Struct, frozen=True, forbid_unknown_fields=True):
    """Files in PEM, read whenever the adapter starts or starts again."""

    ca: Annotated[
        str, Meta(description="Authorities for the agent's certificate; the system's if empty.")
    ] = ""
    cert: Annotated[str, Meta(description="Our certificate, with its chain.")] = ""
    key: Annotated[str, Meta(description="The key of our certificate.")] = ""


class ConsulRegistration(Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon as a service in Consul: registered while the registry is followed."""

    address: Annotated[str, Meta(description="Where clients reach the daemon.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Its xDS port.")]
    name: Annotated[str, Meta(description="The service's name.")] = "mesh-aggregator"
    tags: Annotated[tuple[str, ...], Meta(description="The service's tags.")] = ()
    check: Annotated[
        str,
        Meta(
            description="A URL that Consul asks, such as http://10.0.0.5:15014/ready; without one "
            "the daemon itself says every few seconds that it lives."
        ),
    ] = ""


class ConsulSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What a registry of type consul takes beside the keys of every registry."""

    address: Annotated[
        AgentAddress,
        Meta(description="An agent's HTTP address, `host:port` or `https://host:port`."),
    ] = "127.0.0.1:8500"
    fallback_addresses: Annotated[
        tuple[AgentAddress, ...],
        Meta(description="More agents of the same datacenter, asked in turn when one fails."),
    ] = ()
    tls: Annotated[
        ConsulTls | None, Meta(description="Files for https, which an empty section asks for.")
    ] = None
    token_file: Annotated[
        str, Meta(description="File with the ACL token; read again when it changes.")
    ] = ""
    datacenters: Annotated[
        tuple[str, ...],
        Meta(description="Which to read, `*` for all that are joined; the agent's own if empty."),
    ] = ()
    namespaces: Annotated[
        tuple[str, ...], Meta(description="Enterprise namespaces to read; the token's if empty.")
    ] = ()
    partitions: Annotated[
        tuple[str, ...], Meta(description="Enterprise partitions to read; the agent's if empty.")
    ] = ()
    services: Annotated[
        tuple[str, ...],
        Meta(description="Patterns of service names to read; others cost nothing."),
    ] = (ALL,)
    tags: Annotated[
        tuple[str, ...], Meta(description="Tags, all of which an instance must have to be read.")
    ] = ()
    health: Annotated[
        tuple[Status, ...], Meta(description="Which states of an instance get traffic.")
    ] = (Status.PASSING, Status.WARNING)
    consistency: Annotated[
        Consistency, Meta(description="`stale` lets any server answer, which spares the leader.")
    ] = Consistency.STALE
    max_stale: Annotated[
        Duration,
        Meta(description="A server that heard nothing of its leader for longer is not believed."),
    ] = Duration(10)
    tagged_address: Annotated[
        str, Meta(description="Which of an instance's tagged addresses is taken, if it has it.")
    ] = ""
    remote_tagged_address: Annotated[
        str, Meta(description="The same, of instances in other datacenters than the agent's.")
    ] = "wan"
    regions: Annotated[
        Mapping[str, str],
        Meta(description="Regions by datacenter, where these are not called alike."),
    ] = {}
    kv_prefix: Annotated[
        str, Meta(description="Rules are read from the keys below it; none if empty.")
    ] = ""
    kv_datacenter: Annotated[
        str, Meta(description="Whose keys these are; the agent's own datacenter if empty.")
    ] = ""
    watches: Annotated[
        int,
        Meta(ge=1, le=170, description="How many services are watched one by one, at most."),
    ] = 150
    sweep_rate: Annotated[
        int,
        Meta(ge=1, le=5000, description="How many of the others are looked at each second."),
    ] = 300
    wait: Annotated[
        Duration, Meta(description="How long Consul may keep a question without news.")
    ] = Duration(30)
    timeout: Annotated[Duration, Meta(description="How long any other answer may take.")] = (
        Duration(10)
    )
    register: Annotated[
        ConsulRegistration | None,
        Meta(description="Registers the daemon itself as a service, if given."),
    ] = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """All agents, the first of which is asked first."""
        return (self.address, *self.fallback_addresses)
