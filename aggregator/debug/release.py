"""Which release runs, and on which libraries."""

import platform
from functools import cache
from importlib.metadata import version

DISTRIBUTION = "mesh-aggregator"
_LIBRARIES = ("grpcio", "protobuf", "xds-protos")


@cache
def components() -> dict[str, str]:
    """Versions by name: ours first, then those that shape what is sent."""
    versions = {name: version(name) for name in (DISTRIBUTION, *_LIBRARIES)}
    return versions | {"python": platform.python_version()}
