"""Filter chains before they are Envoy's, and how those of one listener are kept apart.

Knows no service and no rule.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from itertools import product
from typing import Final

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from msgspec import Struct

from aggregator.generators.bind import build_cidr

TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
_ANY = ""


class Chain(Struct, frozen=True):
    """What is done with connections that match.

    `sni` holds exact names and wildcards such as ``*.example.org``; empty, and ``*`` in it, mean
    any connection, TLS or not. `subnets` are CIDR ranges of the address that was dialled.
    """

    filters: tuple[listener_components_pb2.Filter, ...]
    clusters: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()
    sni: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    name: str = ""

    @property
    def matches_all(self) -> bool:
        """Whether no connection escapes it."""
        return not self.sni and not self.subnets

    def build(self) -> listener_components_pb2.FilterChain:
        """Envoy's form of it; one that matches all has no match, as its place decides."""
        built = listener_components_pb2.FilterChain(name=self.name, filters=self.filters)
        if not self.matches_all:
            built.filter_chain_match.server_names.extend(self.sni)
            built.filter_chain_match.prefix_ranges.extend(map(build_cidr, self.subnets))
        return built


class ChainSet:
    """The chains of one listener: each gets only what none before it matches.

    Envoy refuses a listener of which two chains match the same name at the same range.
    """

    def __init__(self) -> None:
        self.chains: Final[list[Chain]] = []
        self._owners: Final[dict[tuple[str, str], str]] = {}

    @property
    def owner_of_rest(self) -> str:
        """Who has the connections that no name and no range tells apart; "" if nobody has."""
        return self._owners.get((_ANY, _ANY), "")

    def add(self, chain: Chain, owner: str) -> str:
        """Returns another owner that has what the chain asked for, or ""."""
        names = {_ANY} if not chain.sni or "*" in chain.sni else {sni.lower() for sni in chain.sni}
        ranges = {str(ip_network(each, strict=False)) for each in chain.subnets} or {_ANY}
        wanted = sorted(product(ranges, names))
        taken = [pair for pair in wanted if pair in self._owners]
        free = [pair for pair in wanted if pair not in self._owners]
        self._owners.update(dict.fromkeys(free, owner))
        self.chains.extend(_split(chain, free))
        return next((self._owners[pair] for pair in taken if self._owners[pair] != owner), "")


def _split(chain: Chain, pairs: Iterable[tuple[str, str]]) -> Iterable[Chain]:
    """As few chains as match exactly these pairs of range and name."""
    names_at: dict[str, set[str]] = {}
    for subnet, name in pairs:
        names_at.setdefault(subnet, set()).add(name)
    ranges_of: dict[tuple[str, ...], set[str]] = {}
    for subnet, names in names_at.items():
        ranges_of.setdefault(tuple(sorted(names)), set()).add(subnet)
    for key, ranges in sorted(ranges_of.items()):
        yield Chain(
            chain.filters,
            chain.clusters,
            chain.origins,
            sni=tuple(name for name in key if name != _ANY),
            subnets=tuple(sorted(each for each in ranges if each != _ANY)),
            name=chain.name,
        )


def build_listener_filters(
    chains: Sequence[Chain],
) -> list[listener_components_pb2.ListenerFilter]:
    """What has to look at a connection's first bytes before a chain can be chosen."""
    if not any(chain.sni for chain in chains):
        return []
    inspector = listener_components_pb2.ListenerFilter(name=TLS_INSPECTOR)
    inspector.typed_config.Pack(tls_inspector_pb2.TlsInspector())
    return [inspector]
