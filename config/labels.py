"""Labels out of the free metadata of registries that have no rules for them. Pure.

What Kubernetes would not take as a label cannot be selected by, and is left out by name rather than
changed into something that nobody wrote.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from aggregator.model.service import Labels, labels_of
from config.check import is_label

_LONGEST_SHOWN: Final = 80


class CleanLabels(Struct, frozen=True):
    """The usable labels, and the names of those that were left out, sorted and shortened."""

    labels: Labels = ()
    dropped: tuple[str, ...] = ()


def clean_labels(*metadata: Mapping[str, str]) -> CleanLabels:
    """Unite *metadata*, the first of which has precedence, and keep what may be a label."""
    united: dict[str, str] = {}
    for each in reversed(metadata):
        united.update(each)
    kept = {key: value for key, value in united.items() if is_label(key, value)}
    if len(kept) == len(united):
        return CleanLabels(labels_of(kept))
    dropped = sorted(key[:_LONGEST_SHOWN] for key in united if key not in kept)
    return CleanLabels(labels_of(kept), tuple(dropped))
