"""What is known of the services of a scope, answer by answer."""

from typing import Any

import msgspec
import pytest

from adapters.consul.client import Answer
from adapters.consul.decode import Decoder, Scope
from adapters.consul.known import KnownServices
from adapters.consul.settings import ConsulSettings
from aggregator.model.errors import AdapterUnavailableError, Origin
from aggregator.model.registry import RegistryContext, ServiceItem

CONTEXT = RegistryContext(name="consul", cluster_id="")


def known_services() -> KnownServices:
    """Nothing is known yet."""
    decoder = Decoder(CONTEXT, ConsulSettings(), Scope("dc1"), "dc1")
    return KnownServices(decoder, Origin("consul/dc1"))


def answer(*addresses: str, created: int = 1, index: int = 1, **meta: Any) -> Answer:
    """What Consul says of a service with instances at these addresses."""
    entries = [
        {
            "Node": {"Node": "n", "Datacenter": "dc1"},
            "Service": {
                "ID": each,
                "Address": each,
                "Port": 80,
                "CreateIndex": created,
                "Meta": meta,
            },
        }
        for each in addresses
    ]
    return Answer(msgspec.json.encode(entries), index)


def test_only_what_differs_is_said() -> None:
    """A sweep over thousands of services costs the mesh nothing."""
    known = known_services()

    said = known.take("web", answer("10.0.0.1", index=5))

    assert set(said) == {"web"}
    assert known.index("web") == 5
    assert known.take("web", answer("10.0.0.1", index=6)) == {}
    assert known.index("web") == 6
    assert set(known.take("web", answer("10.0.0.2"))) == {"web"}
    assert known.problems() is None


def test_of_two_names_for_one_host_the_older_keeps_it() -> None:
    """Whichever is read first, and until it is gone."""
    known = known_services()
    known.take("my_web", answer("10.0.0.1", created=9))
    said = known.take("my-web", answer("10.0.0.2", created=3))

    assert said["my_web"] is None
    assert isinstance(said["my-web"], ServiceItem)
    (problem,) = known.problems() or ()
    assert "'my_web' would be 'my-web.service.dc1.consul', which 'my-web' is already" in str(
        problem
    )
    assert set(known.items()) == {"my-web"}

    known.forget(["my-web"])

    assert set(known.items()) == {"my_web"}
    assert known.problems() == ()


def test_what_is_hidden_is_not_taken_for_empty() -> None:
    """A token that lost a right takes nothing away."""
    known = known_services()
    known.take("web", answer("10.0.0.1"))

    said = known.take("web", Answer(b"[]", 2, filtered=True))

    assert said == {}
    assert set(known.items()) == {"web"}
    assert "the token may not read" in str((known.problems() or ())[0])
    known.take("web", answer("10.0.0.1", index=3))
    assert known.problems() == ()


def test_no_instance_left_is_a_service_without_endpoints() -> None:
    """Until it is no longer listed."""
    known = known_services()
    known.take("web", answer("10.0.0.1"))

    item = known.take("web", answer())["web"]

    assert isinstance(item, ServiceItem)
    assert item.service is not None
    assert item.endpoints == ()


@pytest.mark.parametrize("body", [b"", b"{", b"[1", b'{"a": 1}', b"\xff"], ids=repr)
def test_half_an_answer_is_none(body: bytes) -> None:
    """It raises, and changes nothing."""
    known = known_services()
    known.take("web", answer("10.0.0.1"))

    with pytest.raises(AdapterUnavailableError):
        known.take("web", Answer(body, 2))

    assert set(known.items()) == {"web"}


def test_much_that_is_wrong_is_told_in_part() -> None:
    """And metadata that are no labels are told by one example."""
    known = known_services()
    known.refuse({f"a b{number}": "no name" for number in range(200)}, partial=True)
    known.take("web", answer("10.0.0.1", url="http://x"))
    known.take("api", answer("10.0.0.1", url="http://x"))

    problems = [str(each) for each in known.problems() or ()]

    assert len(problems) == 103
    assert any("'url' of service 'api'" in each for each in problems)
    assert any("may not read all services" in each for each in problems)
