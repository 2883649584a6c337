"""The settings of an etcd registry."""

from typing import Any

import pytest

from adapters.etcd.settings import EtcdSettings, validate
from aggregator.model.errors import ConfigError, Origin
from config.shape import decode_struct


def decode(**fields: Any) -> EtcdSettings:
    """Settings with these fields."""
    data = {"endpoints": ["127.0.0.1:2379"], **fields}
    return decode_struct(data, EtcdSettings, "", lambda _path: Origin())


@pytest.mark.parametrize("endpoint", ["127.0.0.1:2379", "etcd-0.etcd:2379", "[::1]:2379"])
def test_endpoints_are_hosts_with_ports(endpoint: str) -> None:
    """Names and addresses of both families."""
    assert decode(endpoints=[endpoint]).endpoints == (endpoint,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"endpoints": []}, "endpoints: expected at least 1 in the list"),
        ({"endpoints": ["etcd"]}, "endpoints[0]: expected host:port such as 127.0.0.1:2379"),
        ({"endpoints": ["a:0"]}, "endpoints[0]: expected host:port"),
        ({"endpoints": ["https://a:1"]}, "found 'https://a:1'; `tls` says whether TLS is spoken"),
        ({"prefix": "/mesh"}, "prefix: expected a prefix that ends in a slash such as /mesh/"),
        ({"prefix": ""}, "prefix: expected a prefix that ends in a slash"),
        ({"password": "x"}, "unknown field 'password'; did you mean 'password_file'?"),
        ({"timeout": 5}, "timeout: expected a duration such as 5s"),
    ],
)
def test_what_does_not_fit_is_told(fields: dict[str, Any], message: str) -> None:
    """One message says where, what, and what was expected."""
    with pytest.raises(ConfigError) as caught:
        decode(**fields)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"password_file": "p"}, "password_file"),
        ({"tls": {"cert": "c"}}, "tls.key"),
        ({"tls": {"key": "k"}}, "tls.cert"),
        ({"endpoints": ["a:1", "a:1"]}, "endpoints"),
        ({"timeout": "0s"}, "timeout"),
    ],
)
def test_what_does_not_go_together_is_told(fields: dict[str, Any], path: str) -> None:
    """It would fail later, and less clearly."""
    assert [where for where, _ in validate(decode(**fields))] == [path]


def test_what_goes_together_is_fine() -> None:
    """The usual settings."""
    assert not list(validate(decode(user="u", password_file="p", tls={"cert": "c", "key": "k"})))
