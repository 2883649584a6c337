"""What clusters say about themselves."""

from google.protobuf import json_format

from aggregator.generators.metadata import build_cluster_metadata
from aggregator.model.config import ConfigKey


def test_service_rule_and_subset_are_named_as_istios_tools_read_them() -> None:
    """``proxy-config cluster`` shows the rule from here, telemetry the service."""
    built = build_cluster_metadata(
        "reviews.shop.svc.cluster.local",
        "shop",
        config=ConfigKey("DestinationRule", "web", "ours"),
        subset="v1",
        external=True,
    )

    assert json_format.MessageToDict(built.filter_metadata["istio"]) == {
        "services": [
            {"host": "reviews.shop.svc.cluster.local", "name": "reviews", "namespace": "shop"}
        ],
        "config": "/apis/networking.istio.io/v1/namespaces/web/destination-rule/ours",
        "subset": "v1",
        "external": True,
    }


def test_a_service_outside_kubernetes_goes_by_its_host() -> None:
    """The first label of ``api.example.com`` would name many services."""
    built = build_cluster_metadata(
        "api.example.com", "shop", config=None, subset="", external=False
    )

    assert json_format.MessageToDict(built.filter_metadata["istio"]) == {
        "services": [{"host": "api.example.com", "name": "api.example.com", "namespace": "shop"}]
    }
