"""Our validation against Istio's own verdicts, where the cases are at hand."""

import pytest

from tests.support.istio_cases import FILE, shares, verdicts


@pytest.fixture(autouse=True)
def _needs_the_cases() -> None:
    if not FILE.exists():
        pytest.skip(f"the cases are not at {FILE}")


def test_istios_verdicts_are_ours() -> None:
    """Rules that Istio takes are taken here, and those that it refuses are refused."""
    found = verdicts()

    assert len(found) > 500
    assert all(share >= 0.98 for share in shares(found).values()), [
        (each.case.id, each.case.valid, [str(problem) for problem in each.problems])
        for each in found
        if not each.agrees
    ]


def test_istios_warnings_are_ours() -> None:
    """Where Istio warns the author of something, so do we."""
    found = verdicts()
    differing = [each.case.id for each in found if not each.warning_agrees]

    assert len(differing) <= len(found) * 0.02, differing
