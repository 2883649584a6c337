"""What is doubtful about Services that open networks."""

from collections.abc import Mapping

import pytest

from config.core.gateway import gateway_doubts, network_gateways
from config.core.metadata import ObjectMeta
from config.core.service import CoreService, CoreServicePort, CoreServiceSpec

PORTS = (CoreServicePort(15443, node_port=31000), CoreServicePort(443))


def gateway(
    labels: Mapping[str, str], annotations: Mapping[str, str], kind: str = "NodePort"
) -> CoreService:
    """A Service that opens a network, unless its labels say otherwise."""
    network = {"topology.istio.io/network": "net1", **labels}
    metadata = ObjectMeta("gateway", "istio-system", network, annotations)
    return CoreService(metadata, CoreServiceSpec(kind, PORTS, external_ips=("192.0.2.1",)))


PORT = "networking.istio.io/gatewayPort"
NODES = "traffic.istio.io/nodeSelector"


@pytest.mark.parametrize(
    ("labels", "annotations", "doubt"),
    [
        ({}, {}, ""),
        ({PORT: "15443"}, {NODES: '{"a": "b"}'}, ""),
        ({PORT: "tls"}, {}, "expected a port from 1 to 65535, found 'tls'; taken for 15443"),
        ({PORT: "0"}, {}, "expected a port from 1 to 65535, found '0'"),
        ({PORT: "9" * 5000}, {}, "expected a port from 1 to 65535"),
        ({PORT: "443"}, {}, "it has no node port for port 443"),
        ({}, {NODES: "{a"}, "expected a JSON object of labels; no node is taken"),
        ({}, {NODES: "[]"}, "expected a JSON object of labels; no node is taken"),
        ({"topology.istio.io/network": "", PORT: "tls"}, {}, ""),
    ],
)
def test_why_a_gateway_is_not_what_was_meant_is_told(
    labels: Mapping[str, str], annotations: Mapping[str, str], doubt: str
) -> None:
    """Labels are free text to an API server, and a slip in one closes a network."""
    found = gateway_doubts(gateway(labels, annotations))

    assert doubt in found
    assert bool(found) is bool(doubt)


def test_a_port_that_is_none_is_taken_for_the_usual_one() -> None:
    """As it was before; that it is told does not change what is served."""
    (found,) = network_gateways(gateway({PORT: "tls"}, {}, "LoadBalancer"), "east", lambda: ())

    assert (found.address, found.port) == ("192.0.2.1", 15443)
