"""How rules say which proxies or workloads they concern."""

from collections.abc import Mapping
from enum import StrEnum

from config.check import Report, check_labels
from config.message import Message


class WorkloadSelector(Message, frozen=True):
    """The networking API's selector: proxies that have all these labels."""

    labels: Mapping[str, str] = {}


class MatchLabelsSelector(Message, frozen=True):
    """The type API's selector (DestinationRule's): the same under another name."""

    match_labels: Mapping[str, str] = {}


class SelectorOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelRequirement(Message, frozen=True):
    """One comparison of a label's value with some."""

    key: str
    operator: SelectorOperator
    values: tuple[str, ...] = ()


class LabelSelector(Message, frozen=True):
    """Kubernetes' selector: all of it must hold; an empty one matches everything."""

    match_labels: Mapping[str, str] = {}
    match_expressions: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is meant."""
        return all(labels.get(name) == value for name, value in self.match_labels.items()) and all(
            _holds(each, labels) for each in self.match_expressions
        )


def _holds(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case SelectorOperator.IN:
            return value in requirement.values
        case SelectorOperator.NOT_IN:
            return value not in requirement.values
        case SelectorOperator.EXISTS:
            return value is not None
        case SelectorOperator.DOES_NOT_EXIST:
            return value is None


def check_label_selector(report: Report, path: str, selector: LabelSelector) -> None:
    """Demand what Kubernetes demands of a selector."""
    check_labels(report, f"{path}.matchLabels", selector.match_labels)
    for index, each in enumerate(selector.match_expressions):
        where = f"{path}.matchExpressions[{index}]"
        check_labels(report, where, {each.key: ""})
        some = each.operator in (SelectorOperator.IN, SelectorOperator.NOT_IN)
        if some and not each.values:
            report.error(f"{where}.values", f"{each.operator} needs at least one value")
        elif not some and each.values:
            report.error(f"{where}.values", f"{each.operator} takes no values")


class PolicyTargetReference(Message, frozen=True):
    """A rule attached to an object by name."""

    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
