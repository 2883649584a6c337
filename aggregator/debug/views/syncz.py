"""`syncz`: for each proxy and type, what was sent, what was acknowledged, and what was rejected."""

from typing import Final

from aggregator.debug.proxies import PARAMETERS, ago, selected
from aggregator.debug.sources import Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.model.proxy import Proxy
from aggregator.xds.stream import Stream
from aggregator.xds.subscription import Subscription


def _read(sources: Sources, query: Query) -> object:
    now = sources.engine.clock()
    return [_proxy(proxy, stream, now) for proxy, stream in selected(sources, query)]


def _proxy(proxy: Proxy, stream: Stream, now: float) -> dict[str, object]:
    subscriptions = sorted(stream.session.subscriptions.values(), key=lambda each: each.kind.order)
    return {
        "proxy": proxy.id,
        "namespace": proxy.namespace,
        "peer": stream.peer,
        "types": {each.kind.short: _type(each, now) for each in subscriptions},
    }


def _type(subscription: Subscription, now: float) -> dict[str, object]:
    return {
        "status": _status(subscription),
        "nonceSent": subscription.nonce_sent,
        "nonceAcked": subscription.nonce_acked,
        "versionAcked": subscription.version_acked,
        "sentSecondsAgo": ago(now, subscription.sent_at),
        "ackedSecondsAgo": ago(now, subscription.acked_at),
        "resources": len(subscription.known.resources),
        "nacks": subscription.nacks,
        "lastError": subscription.last_error,
        "rejected": [
            {
                "name": rejection.name,
                "version": rejection.version,
                "error": rejection.error,
                "origins": rejection.origins,
            }
            for versions in subscription.isolation.rejected.values()
            for rejection in versions.values()
        ],
    }


def _status(subscription: Subscription) -> str:
    """Istio's words, and one for a proxy that has refused something."""
    if not subscription.nonce_sent:
        return "NOT SENT"
    if subscription.isolation.rejected:
        return "ERROR"
    return "STALE" if subscription.unacknowledged else "SYNCED"


VIEW: Final = ViewSpec(
    "syncz",
    "For each proxy and type: what was sent, what it acknowledged, what it rejected and why.",
    _read,
    parameters=PARAMETERS,
)
