"""`adsz`: who is connected, what it says about itself, and what it watches."""

from typing import Final

from aggregator.debug.proxies import PARAMETERS, ago, selected
from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.model.proxy import Proxy
from aggregator.xds.stream import Stream
from aggregator.xds.subscription import Subscription


def _read(sources: Sources, query: Query) -> object:
    now = sources.engine.clock()
    clients = [_client(proxy, stream, now) for proxy, stream in selected(sources, query)]
    return {
        "totalClients": len(sources.server.streams),
        "views": len(sources.engine.views),
        "clients": clients,
    }


def _client(proxy: Proxy, stream: Stream, now: float) -> dict[str, object]:
    session = stream.session
    return {
        "proxy": proxy,
        "peer": stream.peer,
        "connectedSecondsAgo": ago(now, stream.connected_at),
        "protocol": "delta" if session.delta else "state of the world",
        "aggregated": session.aggregated,
        "watches": {
            each.kind.short: _watch(each) for each in tuple(session.subscriptions.values())
        },
    }


def _watch(subscription: Subscription) -> dict[str, object]:
    return {
        "typeUrl": subscription.kind.type_url,
        "wildcard": subscription.wildcard,
        "names": sorted(subscription.names),
        "resources": len(subscription.known.resources),
    }


VIEW: Final = ViewSpec(
    "adsz",
    "Who is connected: metadata, labels, locality, and what it watches.",
    _read,
    parameters=PARAMETERS,
)
