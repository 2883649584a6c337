"""Connected clients as the debug views show and find them."""

from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, QueryError
from aggregator.model.proxy import Proxy
from aggregator.xds.stream import Stream

PARAMETERS = {
    "proxyID": "only this proxy: its node id, or <name>.<namespace>",
    "namespace": "only proxies of this namespace",
}


def identified(sources: Sources) -> list[tuple[Proxy, Stream]]:
    """Every client that has said who it is, by node id; the longest connected one first."""
    found = [(stream.proxy, stream) for stream in sources.server.streams if stream.proxy]
    return sorted(found, key=lambda each: (each[0].id, each[1].connected_at))


def selected(sources: Sources, query: Query) -> list[tuple[Proxy, Stream]]:
    """Those of them that the query asks for. Raises QueryError if it names one in vain."""
    proxies = [
        (proxy, stream)
        for proxy, stream in identified(sources)
        if query.get("namespace", proxy.namespace) == proxy.namespace
        and is_named(proxy, query.get("proxyID", proxy.id))
    ]
    if "proxyID" in query and not proxies:
        raise QueryError(404, f"no proxy {query['proxyID']!r} is connected here")
    return proxies


def is_named(proxy: Proxy, name: str) -> bool:
    """Whether *name* is the node's id, or that part of Istio's ids that people know."""
    return name == proxy.id or (proxy.istio_id and proxy.id.split("~")[2] == name)


def ago(now: float, then: float) -> float | None:
    """Seconds since *then*; None if it never happened."""
    return round(now - then, 3) if then else None
