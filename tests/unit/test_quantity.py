"""Sizes and listen addresses as the settings write them."""

import pytest

from aggregator.quantity import Address, Size, is_loopback


@pytest.mark.parametrize(
    ("text", "size"),
    [("48MiB", 48 * 2**20), ("64 KiB", 65536), ("1GiB", 2**30), ("1MB", 10**6), ("1024B", 1024)],
)
def test_sizes_are_read_in_the_unit_that_they_name(text: str, size: int) -> None:
    """A budget of memory is the one that was written."""
    assert Size.parse(text) == size


@pytest.mark.parametrize("text", ["", "1024", "MiB", "-1MiB", "48M", "48mib", "1.5MiB", "9" * 16])
def test_sizes_that_could_be_misread_are_refused(text: str) -> None:
    """48M may mean two things; the message shows the form that is meant."""
    with pytest.raises(ValueError, match="expected a size such as 48MiB"):
        Size.parse(text)


@pytest.mark.parametrize("size", ["48MiB", "3KiB", "2GiB", "17B", "0B"])
def test_sizes_print_as_they_are_written(size: str) -> None:
    """Defaults in the schema and documentation can be copied into a file."""
    assert str(Size.parse(size)) == size


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:15010", "127.0.0.1", 15010),
        ("[::1]:0", "::1", 0),
        ("localhost:80", "localhost", 80),
    ],
)
def test_addresses_split_into_host_and_port(text: str, host: str, port: int) -> None:
    """IPv6 addresses lose their brackets, as sockets want them."""
    address = Address.parse(text)

    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize(
    "text", ["15010", ":15010", "127.0.0.1", "127.0.0.1:", "::1:15010", "a b:1", "h:65536", "h:x"]
)
def test_addresses_that_are_not_host_and_port_are_refused(text: str) -> None:
    """Listening on something other than was meant would open the mesh to others."""
    with pytest.raises(ValueError, match="expected host:port"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    """The debug views are guarded by this."""
    assert is_loopback(host) is expected
