"""The names under which metrics are shown."""

from prometheus_client import CollectorRegistry, generate_latest

from aggregator.generators.spec import CLUSTER
from aggregator.push.metrics import Metrics


def test_counters_have_the_names_that_dashboards_for_istio_know() -> None:
    """An alert on `pilot_total_xds_rejects` must not go silent because of a suffix or a letter."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.rejects.labels(CLUSTER.label).inc()
    metrics.write_timeouts.inc(2)
    shown = generate_latest(registry).decode()
    assert '\npilot_total_xds_rejects{type="cds"} 1.0\n' in shown
    assert "\npilot_xds_write_timeout 2.0\n" in shown


def test_convergence_is_shown_by_type_and_by_each_registry_that_told_of_a_change() -> None:
    """Which registry's changes are slow to arrive is the first question."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    metrics.converged(CLUSTER.label, ["east", "west"], 0.2)
    metrics.converged(CLUSTER.label, ["east"], 0.2)
    metrics.converged(CLUSTER.label, [], 0.2)

    shown = generate_latest(registry).decode()
    assert 'mesh_convergence_seconds_count{registry="east",type="cds"} 2.0' in shown
    assert 'mesh_convergence_seconds_count{registry="west",type="cds"} 1.0' in shown
    assert 'pilot_proxy_convergence_time_count{type="cds"} 3.0' in shown
