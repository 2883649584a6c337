"""What a proxy sees: `exportTo`, and a Sidecar's hosts, listeners and policy."""

import pytest

from tests.e2e.conftest import BOTH_VARIANTS, Backends, StartTown
from tests.support.poll import eventually
from tests.support.servers.backend import HttpBackend
from tests.support.town import Town, rule_document, service_document

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

NOBODY = 502


@BOTH_VARIANTS
async def test_services_exported_to_namespaces(town: Town, backends: Backends) -> None:
    """A service of another namespace is known where its `exportTo` says so, and nowhere else."""
    case = town.case("export")
    for name, export_to in (("named", town.name), ("own", "."), ("no", "x")):
        case.service(
            backends.v1,
            host=f"{name}.{case.host}",
            more={"namespace": "elsewhere", "export_to": [export_to]},
        )
    case.service(backends.v1, host=f"none.{case.host}", more={"export_to": ["~"]})
    await case.apply()
    names = ("named", "own", "no", "none")
    statuses = {name: (await case.send(host=f"{name}.{case.host}")).status for name in names}

    assert statuses == {"named": 200, "own": NOBODY, "no": NOBODY, "none": NOBODY}


async def test_services_exported_to_all(towns: StartTown, backends: Backends) -> None:
    """``*`` is every namespace. On a port of its own, which both Envoys then have."""
    delta, sotw = await towns("delta"), await towns("sotw")
    case = delta.case("export-all")
    port = delta.ports.reserve()
    case.service(backends.v1, port=port, more={"namespace": "elsewhere", "export_to": ["*"]})
    await case.apply()
    await sotw.settle()

    for town in (delta, sotw):
        assert f"outbound|{port}||{case.host}" in await town.envoy.clusters()


async def test_own_namespace_comes_first(town: Town, backends: Backends) -> None:
    """Of services with the same host in two namespaces, the proxy's own is meant."""
    case, other = town.case("twice"), town.case("twice-elsewhere")
    case.service(backends.v1)
    elsewhere = {"namespace": "a-before-all", "export_to": [town.name]}
    other.service(backends.v2, host=case.host, more=elsewhere)
    other.save()
    await case.apply()
    assert (await case.send()).backend == "v1"

    case.delete()
    await town.settle()
    assert (await case.send()).backend == "v2"


@BOTH_VARIANTS
async def test_rules_exported_to_namespaces(town: Town, backends: Backends) -> None:
    """A VirtualService of another namespace holds here if it is exported to here."""
    case = town.case("export-rule")
    case.service(backends.v1)
    spec = {"http": [{"directResponse": {"status": 418}}], "exportTo": ["."]}
    foreign = f"{town.name}-foreign.yaml"
    rule = rule_document("VirtualService", town.name, "elsewhere", spec, [case.host])
    town.mesh.write(foreign, rule)
    await case.apply()
    assert (await case.send()).status == 200

    spec["exportTo"] = [town.name]
    rule = rule_document("VirtualService", town.name, "elsewhere", spec, [case.host])
    town.mesh.write(foreign, rule)
    await town.settle()
    assert (await case.send()).status == 418


async def test_sidecar_hosts(found: StartTown, backends: Backends) -> None:
    """A Sidecar's egress hosts are all that its proxies know; removing it opens the rest."""
    town = await found("narrow")
    case = town.case("hosts")
    case.service(backends.v1, host="seen.narrow.test")
    case.service(backends.v2, host="hidden.narrow.test")
    case.service(backends.v3, host="seen.wide.test", more={"namespace": "wide", "export_to": ["*"]})
    case.service(
        backends.v3, host="hidden.wide.test", more={"namespace": "wide", "export_to": ["*"]}
    )
    case.put(
        "Sidecar",
        """
        egress:
        - hosts: [./seen.narrow.test, ./sentinel.narrow.test, wide/seen.wide.test]
        """,
    )
    await case.apply()
    hosts = ("seen.narrow.test", "hidden.narrow.test", "seen.wide.test", "hidden.wide.test")
    clusters = await town.envoy.clusters()

    assert [(await case.send(host=host)).backend for host in hosts] == ["v1", "", "v3", ""]
    assert not [name for name in clusters if "hidden" in name]

    case.drop("Sidecar")
    await case.apply()
    assert [(await case.send(host=host)).backend for host in hosts] == ["v1", "v2", "v3", "v3"]


async def test_sidecar_of_chosen_workloads(found: StartTown, backends: Backends) -> None:
    """A Sidecar with a selector comes before the namespace's own, for whom it selects."""
    town = await found("chosen")
    case = town.case("selector")
    for backend in (backends.v1, backends.v2):
        case.service(backend, host=f"{backend.name}.chosen.test")
    scopes = (("all", "", "v1"), ("mine", "caller", "v2"), ("others", "nobody", "v1"))
    for name, app, host in scopes:
        selector = f"workloadSelector: {{labels: {{app: {app}}}}}" if app else ""
        egress = f"egress: [{{hosts: [./{host}.chosen.test, ./sentinel.chosen.test]}}]"
        case.put("Sidecar", f"{selector}\n{egress}", name=name)
    await case.apply()
    hosts = ("v1.chosen.test", "v2.chosen.test")
    assert [(await case.send(host=host)).backend for host in hosts] == ["", "v2"]

    case.drop("Sidecar", "mine")
    await case.apply()
    assert [(await case.send(host=host)).backend for host in hosts] == ["v1", ""]


async def test_sidecar_listeners(found: StartTown, backends: Backends) -> None:
    """Egress listeners each have a port, an address and hosts of their own; ingress listeners
    lead to the workload.
    """
    town = await found("listeners")
    first, second, inward = (town.ports.reserve() for _ in range(3))
    case = town.case("listeners")
    async with HttpBackend("workload") as workload:
        case.service(backends.v1, host="a.listeners.test", port=first)
        case.service(backends.v2, host="b.listeners.test", port=first)
        case.put(
            "Sidecar",
            """
            egress:
            - port: {number: <first>, protocol: HTTP, name: first}
              bind: 127.0.0.2
              captureMode: NONE
              hosts: [./a.listeners.test]
            - port: {number: <second>, protocol: HTTP_PROXY, name: second}
              bind: 127.0.0.1
              captureMode: NONE
              hosts: ["./*.listeners.test"]
            - hosts: [./sentinel.listeners.test]
            ingress:
            - port: {number: <inward>, protocol: HTTP, name: inward}
              bind: 127.0.0.1
              captureMode: NONE
              defaultEndpoint: 127.0.0.1:<workload>
            """,
            first=first,
            second=second,
            inward=inward,
            workload=workload.port,
        )
        await case.apply()
        send = town.client.send

        at_first = f"http://127.0.0.2:{first}/"
        await eventually(lambda: send(at_first, host="a.listeners.test"))
        answers = [await send(at_first, host=f"{name}.listeners.test") for name in "ab"]
        assert [each.status for each in answers] == [200, NOBODY]
        proxy = f"http://127.0.0.1:{second}"
        for name, backend in (("a", "v1"), ("b", "v2")):
            answer = await send(f"http://{name}.listeners.test:{first}/", proxy=proxy)
            assert answer.backend == backend
        assert (await send(f"http://127.0.0.1:{inward}/", host="any.test")).backend == "workload"


async def test_unknown_hosts(found: StartTown, backends: Backends) -> None:
    """REGISTRY_ONLY refuses hosts that nobody knows; an egress proxy takes them all."""
    town = await found("policy")
    case = town.case("policy")
    case.service(backends.v2, host="proxy.policy.test", port=8080)
    case.put("Sidecar", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    await case.apply()
    assert (await case.send(host="unknown.test")).status == NOBODY

    case.put(
        "Sidecar",
        """
        outboundTrafficPolicy:
          mode: ALLOW_ANY
          egressProxy: {host: proxy.policy.test, port: {number: 8080}}
        """,
    )
    await case.apply()
    answer = await case.send(host="unknown.test")
    assert answer.backend == "v2"
    assert answer.data["headers"]["host"] == "unknown.test"


@BOTH_VARIANTS
async def test_deleted_file(town: Town, backends: Backends) -> None:
    """What a deleted file said is no longer known; a broken one keeps what it said last."""
    case = town.case("deleted")
    case.service(backends.v1)
    await case.apply()
    name = f"{town.name}-deleted.yaml"
    whole = service_document(case.host, town.name, town.port, [backends.v1])
    broken = {"services": [{**whole["services"][0], "endpoints": "none"}]}
    town.mesh.write(name, broken)
    await town.settle()
    assert town.mesh.aggregate.problems()["files", name]
    assert (await case.send()).backend == "v1"

    town.mesh.write(name, whole)
    await town.settle()
    assert ("files", name) not in town.mesh.aggregate.problems()
    case.delete()
    await town.settle()
    assert (await case.send()).status == NOBODY


async def test_new_port(town: Town, backends: Backends) -> None:
    """A service on a new port gets a listener, which goes with the last service there."""
    port = town.ports.reserve()
    case = town.case("new-port")
    case.service(backends.v1, port=port)
    await case.apply()
    assert (await eventually(lambda: case.send(port=port))).backend == "v1"

    town.mesh.write(
        f"{town.name}-beside.yaml",
        service_document("beside.test", town.name, port, [backends.v2]),
    )
    await town.settle()
    assert (await case.send(host="beside.test", port=port)).backend == "v2"

    case.delete()
    town.mesh.remove(f"{town.name}-beside.yaml")
    await town.settle()

    async def listens() -> bool:
        dump = await town.envoy.config_dump("dynamic_listeners")
        return any(each["name"] == f"127.0.0.1_{port}" for each in dump)

    await eventually(listens, lambda found: not found)
