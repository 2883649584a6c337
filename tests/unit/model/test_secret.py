"""Credentials do not leave by the ways on which everything else is shown."""

import msgspec
import pytest

from aggregator.model.registry import AnnouncedRegistry, RegistryContext
from aggregator.model.secret import Redacted, Secret

TOKEN = Redacted(b"hunter2")


@pytest.mark.parametrize(
    "holder",
    [
        TOKEN,
        Secret("istio-system", "remote", {"east": TOKEN}),
        AnnouncedRegistry("east", "kubernetes", {}, TOKEN),
        RegistryContext(name="east", cluster_id="east", credential=TOKEN),
    ],
)
def test_no_text_of_what_holds_a_credential_shows_it(holder: object) -> None:
    """Logs and tracebacks print values by their names alone."""
    texts = f"{holder} {holder!r} {[holder]} {holder:}"

    assert "hunter2" not in texts
    assert "<redacted>" in texts


def test_encoders_refuse_credentials() -> None:
    """A debug view or a snapshot that came across one fails in its test, and shows nothing."""
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret("istio-system", "remote", {"east": TOKEN}))


def test_another_credential_is_another_value() -> None:
    """A rotated credential is a change of settings, by which the new client is built."""
    assert Redacted(b"a") == Redacted(b"a")
    assert hash(Redacted(b"a")) == hash(Redacted(b"a"))
    assert Redacted(b"a") != Redacted(b"b")
    assert TOKEN.reveal() == b"hunter2"
    assert not Redacted()
