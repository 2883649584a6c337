"""Where listeners stand."""

import pytest

from aggregator.generators.bind import Bind, build_cidr, is_address, is_range, loopback, wildcard
from tests.support.view import FakeView


def test_socket_becomes_a_pipe() -> None:
    """Envoy knows Unix sockets by their path."""
    bind = Bind("unix:///run/mesh.sock", 0)

    assert bind.build_address().pipe.path == "/run/mesh.sock"
    assert bind.name == "unix:///run/mesh.sock_0"


def test_address_and_port_are_both_in_name_and_address() -> None:
    """Tools find a listener by ``<address>_<port>``."""
    bind = Bind("::1", 80)

    assert bind.name == "::1_80"
    assert bind.build_address().socket_address.address == "::1"
    assert bind.build_address().socket_address.port_value == 80


def test_proxy_without_ipv4_binds_ipv6() -> None:
    """127.0.0.1 does not exist there."""
    old, new = FakeView(ipv4=True), FakeView(ipv4=False, ipv6=True)

    assert (loopback(old), wildcard(old)) == ("127.0.0.1", "0.0.0.0")
    assert (loopback(new), wildcard(new)) == ("::1", "::")


@pytest.mark.parametrize(
    ("text", "address", "subnet"),
    [
        ("10.0.0.1", True, False),
        ("fd00::1", True, False),
        ("10.0.0.0/8", False, True),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("reviews.shop", False, False),
        ("10.0.0.0/99", False, False),
        ("", False, False),
    ],
)
def test_virtual_addresses_and_ranges_are_told_apart(
    text: str, address: bool, subnet: bool
) -> None:
    """A listener on "any" or on a range would take what is meant for others."""
    assert (is_address(text), is_range(text)) == (address, subnet)


def test_host_bits_of_a_range_are_cut_off() -> None:
    """Envoy's matching is by prefix."""
    cidr = build_cidr("10.1.2.3/8")

    assert (cidr.address_prefix, cidr.prefix_len.value) == ("10.0.0.0", 8)
