"""Tests of config.mesh."""

from typing import Any

import pytest

from aggregator.model.errors import ConfigError, Origin, Severity
from config.mesh import MeshConfig, MeshNetworks, Network, validate_mesh, without_unused
from config.shape import decode_struct


def place(path: str) -> Origin:
    """Lines as a document would find them."""
    return Origin("mesh.yaml", len(path))


def decode(data: Any) -> MeshConfig:
    """Decode what is written under ``mesh``."""
    return decode_struct(data, MeshConfig, "mesh", place)


def wrong(data: Any) -> list[str]:
    """The fields whose values are refused."""
    found = validate_mesh(decode(data), "mesh", place)
    assert all(each.origin == place(each.path) for each in found)
    return [each.path for each in found]


def test_defaults_are_istios() -> None:
    """A mesh without settings behaves as users of Istio know it."""
    mesh = MeshConfig()

    assert mesh.root_namespace == "istio-system"
    assert (mesh.connect_timeout, mesh.dns_refresh_rate) == (10.0, 60.0)
    assert (mesh.proxy_listen_port, mesh.proxy_inbound_listen_port) == (15001, 15006)
    assert mesh.outbound_traffic_policy.mode == "ALLOW_ANY"
    assert mesh.locality_lb_setting is not None
    assert mesh.locality_lb_setting.enabled is True
    assert mesh.default_config.drain_duration == 45.0
    assert mesh.default_service_export_to == ("*",)
    assert wrong({}) == []


def test_fields_are_read_under_istios_names() -> None:
    """Mesh settings can be brought along."""
    mesh = decode(
        {
            "connectTimeout": "3s",
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "defaultConfig": {"drainDuration": "5s"},
            "defaultHttpRetryPolicy": {"attempts": 0},
            "h2UpgradePolicy": "UPGRADE",
            "accessLogEncoding": "JSON",
            "localityLbSetting": {"enabled": False},
            "tcpKeepalive": {"time": "10s"},
        }
    )

    assert mesh.connect_timeout == 3.0
    assert mesh.outbound_traffic_policy.mode == "REGISTRY_ONLY"
    assert mesh.default_config.drain_duration == 5.0
    assert mesh.default_http_retry_policy is not None
    assert mesh.h2_upgrade_policy == "UPGRADE"
    assert mesh.access_log_encoding == "JSON"
    assert mesh.tcp_keepalive is not None


def test_an_unknown_field_is_an_error_with_the_nearest_known() -> None:
    """A slip of the pen is not a setting."""
    with pytest.raises(ConfigError, match="did you mean 'connectTimeout'"):
        decode({"conectTimeout": "3s"})


def test_known_but_unused_fields_are_taken_out_with_a_warning_each() -> None:
    """Nobody is told that a field works when nothing reads it."""
    data = {
        "connectTimeout": "3s",
        "trustDomain": "x",
        "defaultConfig": {"drainDuration": "5s", "concurrency": 2},
        "outboundTrafficPolicy": {"mode": "ALLOW_ANY", "tls": {}},
        "conectTimeout": "1s",
    }
    kept, warnings = without_unused(data, "mesh", place)

    assert kept == {
        "connectTimeout": "3s",
        "defaultConfig": {"drainDuration": "5s"},
        "outboundTrafficPolicy": {"mode": "ALLOW_ANY"},
        "conectTimeout": "1s",
    }
    assert [each.path for each in warnings] == [
        "mesh.trustDomain",
        "mesh.outboundTrafficPolicy.tls",
        "mesh.defaultConfig.concurrency",
    ]
    assert {each.severity for each in warnings} == {Severity.WARNING}
    assert "trustDomain" in data


@pytest.mark.parametrize("data", [None, [], "x", {"defaultConfig": 5}])
def test_what_is_no_object_is_left_for_decoding_to_refuse(data: object) -> None:
    """The one message about it is enough."""
    assert without_unused(data, "mesh", place) == (data, ())


def test_no_field_is_both_used_and_said_to_be_unused() -> None:
    """The list is kept when a field comes into use."""
    for prefix, struct in (("", MeshConfig), ("defaultConfig", type(MeshConfig().default_config))):
        for name in struct.__struct_encode_fields__:
            data: dict[str, Any] = {name: "x"}
            nested = {prefix: data} if prefix else data
            assert without_unused(nested, "", place) == (nested, ()), name


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        ({"rootNamespace": "a.b"}, ["mesh.rootNamespace"]),
        ({"connectTimeout": "0s"}, ["mesh.connectTimeout"]),
        ({"dnsRefreshRate": "0.0001s"}, ["mesh.dnsRefreshRate"]),
        ({"defaultConfig": {"drainDuration": "0s"}}, ["mesh.defaultConfig.drainDuration"]),
        ({"proxyListenPort": 0}, ["mesh.proxyListenPort"]),
        ({"proxyInboundListenPort": 70000}, ["mesh.proxyInboundListenPort"]),
        ({"proxyHttpPort": 70000}, ["mesh.proxyHttpPort"]),
        ({"proxyHttpPort": 15080}, []),
        ({"defaultServiceExportTo": ["."]}, []),
        ({"defaultVirtualServiceExportTo": ["a.b"]}, ["mesh.defaultVirtualServiceExportTo[0]"]),
        ({"defaultDestinationRuleExportTo": ["*", "x"]}, ["mesh.defaultDestinationRuleExportTo"]),
        ({"defaultHttpRetryPolicy": {"attempts": -1}}, ["mesh.defaultHttpRetryPolicy.attempts"]),
        ({"tcpKeepalive": {"interval": "0s"}}, ["mesh.tcpKeepalive.interval"]),
        (
            {"localityLbSetting": {"failover": [{"from": "a", "to": "a"}]}},
            ["mesh.localityLbSetting.failover[0]"],
        ),
    ],
)
def test_values_are_judged_on_their_own_fields(data: Any, paths: list[str]) -> None:
    """What Envoy would refuse is refused before it is sent."""
    assert wrong(data) == paths


def test_service_settings_and_selectors_are_read_under_istios_names() -> None:
    """Which hosts stay in their cluster, and which namespaces are in the mesh."""
    mesh = decode(
        {
            "serviceSettings": [{"settings": {"clusterLocal": True}, "hosts": ["*.shop.mesh"]}],
            "discoverySelectors": [{"matchLabels": {"mesh": "on"}}],
        }
    )

    assert mesh.service_settings[0].settings is not None
    assert mesh.service_settings[0].settings.cluster_local
    assert mesh.discovery_selectors[0].matches({"mesh": "on"})


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"serviceSettings": [{"hosts": ["a b"]}]}, "mesh.serviceSettings[0].hosts[0]"),
        (
            {"discoverySelectors": [{}, {"matchLabels": {"a": "b c"}}]},
            "mesh.discoverySelectors[1].matchLabels.a",
        ),
    ],
    ids=["host", "label"],
)
def test_hosts_and_selectors_that_match_nothing_are_refused(
    data: dict[str, Any], path: str
) -> None:
    """Their author meant something else."""
    assert wrong(data) == [path]


def test_networks_are_read_under_istios_names() -> None:
    """MeshNetworks too."""
    data = {
        "networks": {
            "net1": {
                "endpoints": [{"fromRegistry": "c1"}, {"fromCidr": "10.0.0.0/8"}],
                "gateways": [{"address": "1.2.3.4", "port": 15443, "locality": "eu"}],
            }
        }
    }
    found = decode_struct(data, MeshNetworks, "", place)

    assert found.networks["net1"].gateways[0].port == 15443
    assert isinstance(found.networks["net1"], Network)
