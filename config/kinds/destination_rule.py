"""DestinationRule: how clients treat a service's endpoints, and its subsets."""

from collections.abc import Mapping

from config.message import Message
from config.selector import MatchLabelsSelector
from config.traffic_policy import TrafficPolicy


class Subset(Message, frozen=True):
    """Endpoints with all these labels, under a name, with a policy that overrides the rule's."""

    name: str = ""
    labels: Mapping[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRule(Message, frozen=True):
    """Policy of a host (exact or wildcard)."""

    host: str = ""
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: MatchLabelsSelector | None = None
