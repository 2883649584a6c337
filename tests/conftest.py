"""What holds for all tests: options, and that nothing blocks the event loop."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

pytest_plugins = ["tests.support.servers.fixture"]

HERE: Final = Path(__file__).parent
WATCHED: Final = (HERE / "unit", HERE / "integration", HERE / "contract")
"""The suites in which a blocking call in the event loop is a failure."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="rewrite the expected resources of tests/golden, and delete strays",
    )
    parser.addoption(
        "--contract",
        action="append",
        default=[],
        metavar="MODULE:CLASS",
        help="run tests/contract over the registry of this driver only",
    )
    parser.addoption(
        "--churn-seconds",
        type=float,
        default=3.0,
        help="for how long tests/contract changes services as fast as it can",
    )


@pytest.fixture(autouse=True)
def _nothing_blocks(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Our own code must not call what blocks while the event loop runs."""
    if not any(request.path.is_relative_to(suite) for suite in WATCHED):
        yield None
        return
    with blockbuster_ctx(["adapters", "agent", "aggregator", "config"]) as guard:
        yield guard
