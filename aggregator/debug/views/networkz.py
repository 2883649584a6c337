"""`networkz`: the networks of the mesh, and the ways into them."""

from typing import Final

from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.model.registry import NetworkGateway


def _read(sources: Sources, _query: Query) -> object:
    aggregate = sources.aggregate
    return [
        {"network": name, "gateways": [_form(each) for each in aggregate.gateways(name)]}
        for name in aggregate.networks()
    ]


def _form(gateway: NetworkGateway) -> dict[str, object]:
    return {
        "address": gateway.address,
        "port": gateway.port,
        "clusterId": gateway.cluster_id,
        "locality": str(gateway.locality),
    }


VIEW: Final = ViewSpec("networkz", "The networks of the mesh, and the ways into them.", _read)
