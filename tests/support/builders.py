"""Short ways to write services, endpoints and rules in tests, with plain defaults."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from aggregator.model.config import Config
from aggregator.model.errors import Origin
from aggregator.model.service import (
    Endpoint,
    Health,
    Locality,
    Port,
    Protocol,
    Resolution,
    Service,
    labels_of,
)
from config.shape import decode_struct

HTTP = Port(80, "http", Protocol.HTTP)


def port(
    number: int = 80, protocol: str | Protocol = Protocol.HTTP, name: str = "", target: int = 0
) -> Port:
    """A service port, named after its protocol unless told otherwise."""
    spoken = Protocol(protocol)
    return Port(number, name or spoken.value.lower(), spoken, target)


def service(
    host: str = "reviews.shop.svc.cluster.local",
    *ports: Port,
    namespace: str = "",
    resolution: str | Resolution = Resolution.STATIC,
    addresses: Sequence[str] = (),
    export_to: Sequence[str] = ("*",),
    labels: Mapping[str, str] | None = None,
    mesh_external: bool = False,
    subject_alt_names: Sequence[str] = (),
    headless: bool = False,
    publish_not_ready: bool = False,
    created: float = 0.0,
    origin: str = "",
) -> Service:
    """A service; the namespace is read from ``<name>.<namespace>.svc.…``, the port is 80, HTTP."""
    parts = host.split(".")
    inferred = parts[1] if len(parts) > 2 and parts[2] == "svc" else "default"
    return Service(
        host=host,
        namespace=namespace or inferred,
        ports=ports or (HTTP,),
        addresses=tuple(addresses),
        resolution=Resolution(resolution),
        mesh_external=mesh_external,
        export_to=tuple(export_to),
        labels=labels_of(labels or {}),
        subject_alt_names=tuple(subject_alt_names),
        headless=headless,
        publish_not_ready=publish_not_ready,
        created=created,
        origin=Origin(origin),
    )


def endpoint(
    address: str = "10.0.0.1",
    *,
    labels: Mapping[str, str] | None = None,
    locality: str = "",
    weight: int = 1,
    health: Health = Health.READY,
    ports: Mapping[str, int] | None = None,
    network: str = "",
    cluster_id: str = "",
    hostname: str = "",
    service_account: str = "",
) -> Endpoint:
    """An endpoint; `locality` is ``region/zone/subzone``."""
    return Endpoint(
        address=address,
        ports=tuple(sorted((ports or {}).items())),
        labels=labels_of(labels or {}),
        locality=Locality.parse(locality),
        network=network,
        cluster_id=cluster_id,
        weight=weight,
        health=health,
        hostname=hostname,
        service_account=service_account,
    )


def config(
    kind: str,
    spec: Struct,
    *,
    name: str = "rule",
    namespace: str = "shop",
    created: float = 0.0,
    source: str = "",
    line: int = 0,
) -> Config:
    """A rule around an already made spec."""
    return Config(kind, namespace, name, spec, created=created, origin=Origin(source, line))


def rule(
    of: type[Struct],
    spec: Mapping[str, Any],
    *,
    name: str = "rule",
    namespace: str = "shop",
    created: float = 0.0,
    source: str = "",
    line: int = 0,
) -> Config:
    """A rule as its author writes it: plain data in camel case, decoded into the kind's struct."""
    return config(
        of.__name__,
        decode_struct(dict(spec), of, "spec", lambda _: Origin(source, line)),
        name=name,
        namespace=namespace,
        created=created,
        source=source,
        line=line,
    )
