"""Which network an endpoint is in where its registry does not tell, and the ways into networks, as
Istio's MeshNetworks say. Pure.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from aggregator.model.registry import NetworkGateway
from aggregator.model.service import Endpoint, Locality, Service
from config.mesh import Network

_Range = ipaddress.IPv4Network | ipaddress.IPv6Network


class NetworkMap:
    """The section `networks` of the settings, made for asking."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self.networks: Final = dict(networks)
        self._by_registry: Final[dict[str, str]] = {}
        ranges: list[tuple[_Range, str]] = []
        for name in sorted(networks):
            for each in networks[name].endpoints:
                if each.from_registry:
                    self._by_registry.setdefault(each.from_registry, name)
                else:
                    ranges.append((ipaddress.ip_network(each.from_cidr, strict=False), name))
        # The narrowest range decides.
        self._ranges: Final = sorted(ranges, key=lambda each: (-each[0].prefixlen, each[1]))
        self._by_address: Final[dict[str, str]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to be found."""
        return bool(self.networks)

    def located(self, endpoint: Endpoint) -> Endpoint:
        """With its network: the one that its registry told, else its registry's, else that of its
        address.
        """
        if endpoint.network or not self.networks:
            return endpoint
        network = (
            self._by_registry.get(endpoint.cluster_id)
            or self._by_registry.get(endpoint.registry)
            or self.of_address(endpoint.address)
        )
        return replace(endpoint, network=network) if network else endpoint

    def of_address(self, address: str) -> str:
        """The network whose range has this address, else ""."""
        found = self._by_address.get(address)
        if found is None:
            found = self._by_address[address] = self._look_up(address) if self._ranges else ""
        return found

    def gateways(self, network: str) -> Iterable[NetworkGateway]:
        """The ways into a network that are given by address."""
        known = self.networks.get(network)
        for each in known.gateways if known else ():
            if each.address:
                where = Locality.parse(each.locality)
                yield NetworkGateway(network, each.address, each.port, "", where)

    def gateways_of(
        self, service: Service, cluster_id: str, registry: str
    ) -> tuple[NetworkGateway, ...]:
        """The ways that a service is which the settings name for the network of its registry."""
        if not self.networks or not service.external_addresses:
            return ()
        network = self._by_registry.get(cluster_id) or self._by_registry.get(registry, "")
        known = self.networks.get(network)
        return tuple(
            NetworkGateway(network, address, each.port, cluster_id, Locality.parse(each.locality))
            for each in (known.gateways if known else ())
            if each.registry_service_name == service.host
            for address in service.external_addresses
        )

    def _look_up(self, address: str) -> str:
        try:
            wanted = ipaddress.ip_address(address)
        except ValueError:
            return ""
        return next((name for each, name in self._ranges if wanted in each), "")
