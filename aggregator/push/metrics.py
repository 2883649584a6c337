"""The metrics of pushing and serving; Istio's names where they mean the same."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.samples import Sample

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class IstioCounter(Counter):
    """A counter without the suffix ``_total``: dashboards and alerts made for Istio know no other.

    The text format has no counters under such names, so its type is shown as unknown.
    """

    _type = "unknown"

    def _child_samples(self) -> Iterable[Sample]:
        return (Sample("", {}, self._value.get(), None, None),)


class TypeMetrics(Struct, frozen=True):
    """The instruments of one type that every response and every answer moves.

    Finding them by label costs more than moving them.
    """

    pushes: Counter
    sent_bytes: Counter
    convergence_time: Histogram


class Metrics:
    """Instruments of one daemon, on a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry: Final = registry
        self.connected: Final = Gauge("pilot_xds", "Connected xDS clients.", registry=registry)
        self.pushes: Final = IstioCounter(
            "pilot_xds_pushes", "Responses sent, by type.", ["type"], registry=registry
        )
        self.sent_bytes: Final = Counter(
            "mesh_xds_sent_bytes", "Bytes of responses, by type.", ["type"], registry=registry
        )
        self.rejects: Final = IstioCounter(
            "pilot_total_xds_rejects",
            "Responses that a client rejected.",
            ["type"],
            registry=registry,
        )
        self.expired_nonces: Final = IstioCounter(
            "pilot_xds_expired_nonce", "Requests with an old nonce.", ["type"], registry=registry
        )
        self.write_timeouts: Final = IstioCounter(
            "pilot_xds_write_timeout", "Streams closed because a write stalled.", registry=registry
        )
        self.push_time: Final = Histogram(
            "pilot_xds_push_time",
            "Seconds from the start of a push until its streams know.",
            buckets=_FAST,
            registry=registry,
        )
        self.debounce_time: Final = Histogram(
            "pilot_debounce_time",
            "Seconds that the first change of a push waited.",
            buckets=_FAST,
            registry=registry,
        )
        self.convergence_time: Final = Histogram(
            "pilot_proxy_convergence_time",
            "Seconds from when a change came in until a client acknowledged it, by type.",
            ["type"],
            buckets=_FAST,
            registry=registry,
        )
        self.loop_lag: Final = Histogram(
            "mesh_event_loop_lag_seconds",
            "How much later than it was due a timer of the event loop fired.",
            buckets=_FAST,
            registry=registry,
        )
        self.convergence: Final = Histogram(
            "mesh_convergence_seconds",
            "Seconds from when a registry's change came in until a client acknowledged it.",
            ["type", "registry"],
            buckets=_FAST,
            registry=registry,
        )
        self._of_registry: Final[dict[tuple[str, str], Histogram]] = {}
        self._of_type: Final[dict[str, TypeMetrics]] = {}

    def of_type(self, label: str) -> TypeMetrics:
        """The instruments of a type by its label."""
        found = self._of_type.get(label)
        if found is None:
            found = self._of_type[label] = TypeMetrics(
                self.pushes.labels(label),
                self.sent_bytes.labels(label),
                self.convergence_time.labels(label),
            )
        return found

    def converged(self, label: str, registries: Iterable[str], seconds: float) -> None:
        """A client acknowledged a response of a type that registries had caused, if any had."""
        self.of_type(label).convergence_time.observe(seconds)
        for registry in registries:
            found = self._of_registry.get((label, registry))
            if found is None:
                found = self.convergence.labels(label, registry)
                self._of_registry[label, registry] = found
            found.observe(seconds)
