"""How rules say which proxies or workloads they concern."""

from collections.abc import Mapping

from config.message import Message


class WorkloadSelector(Message, frozen=True):
    """The networking API's selector: proxies that have all these labels."""

    labels: Mapping[str, str] = {}


class MatchLabelsSelector(Message, frozen=True):
    """The type API's selector (DestinationRule's): the same under another name."""

    match_labels: Mapping[str, str] = {}


class PolicyTargetReference(Message, frozen=True):
    """A rule attached to an object by name."""

    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
