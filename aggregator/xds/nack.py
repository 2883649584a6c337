"""Finds in an Envoy's error text the resources that it names."""

import re
from collections.abc import Iterable
from typing import Final

from aggregator.generators.spec import CLUSTER, LISTENER, ResourceType

NAMING: Final = frozenset({CLUSTER.type_url, LISTENER.type_url})
"""Types whose errors list ``name: reason``. Route names are plain numbers, which any text may hold
by chance.
"""


def named_culprits(kind: ResourceType, suspects: Iterable[str], error: str) -> list[str]:
    """The suspects that the text accuses as ``name:``, not as a part of a longer name."""
    if kind.type_url not in NAMING:
        return []
    return [
        name
        for name in suspects
        if re.search(rf"(?<![\w.|/-]){re.escape(name)}(?=: )", error) is not None
    ]
