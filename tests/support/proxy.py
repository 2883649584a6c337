"""Connected proxies for tests that need no connection."""

from aggregator.model.proxy import Proxy
from aggregator.model.service import labels_of
from aggregator.push.state import Cause, ViewDiff, ViewState


class Silent:
    """A stream that takes note and is never written to."""

    def __init__(self) -> None:
        self.diffs: list[ViewDiff] = []
        self.causes: list[Cause] = []
        self.moved_to: list[ViewState] = []

    def view_changed(self, diff: ViewDiff, cause: Cause) -> None:
        self.diffs.append(diff)
        self.causes.append(cause)

    def view_moved(self, view: ViewState) -> None:
        self.moved_to.append(view)


def proxy(namespace: str = "shop", name: str = "vm-1", **labels: str) -> Proxy:
    """A sidecar of a namespace."""
    return Proxy(
        id=name,
        namespace=namespace,
        domain=f"{namespace}.svc.cluster.local",
        addresses=("10.1.0.1",),
        labels=labels_of(labels),
    )
