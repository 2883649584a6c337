"""What DestinationRules say about balancing, limits and failing endpoints, with real requests."""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Final

import pytest

from tests.e2e.conftest import BOTH_VARIANTS, Backends
from tests.support.http_client import HttpClient
from tests.support.poll import eventually
from tests.support.servers.backend import HttpBackend
from tests.support.town import Case, Town

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

# So many values miss one of three endpoints by chance once in millions of runs.
MANY: Final = 50
# Ejects at once, and for longer than a test takes.
EJECT: Final = """
  outlierDetection:
    consecutive5xxErrors: 2
    interval: 0.1s
    baseEjectionTime: 60s
    maxEjectionPercent: 100
"""


async def made(town: Town, backends: Backends, name: str, policy: str) -> Case:
    """A case with three endpoints and one DestinationRule, in force."""
    case = town.case(name)
    case.service(backends.v1, backends.v2, backends.v3)
    case.policy(policy)
    return await case.apply()


async def answered(case: Case, count: int, path: str = "/") -> list[str]:
    """Which backends answered requests one after the other."""
    return [(await case.send(path)).backend for _ in range(count)]


@BOTH_VARIANTS
async def test_subsets(town: Town, backends: Backends) -> None:
    """A subset has the endpoints with its labels, and no others."""
    case = town.case("subsets")
    tiers = [{"labels": {"tier": tier}} for tier in ("web", "web", "batch")]
    case.service(backends.v1, backends.v2, backends.v3, per_endpoint=tiers)
    case.policy("subsets: [{name: web, labels: {tier: web}}, {name: none, labels: {tier: other}}]")
    case.rule(
        """
        http:
        - match: [{uri: {prefix: /none}}]
          retries: {attempts: 0}
          route: [{destination: {host: <host>, subset: none}}]
        - route: [{destination: {host: <host>, subset: web}}]
        """
    )
    await case.apply()

    assert set(await answered(case, 20)) == {"v1", "v2"}
    assert (await case.send("/none")).status == 503


@BOTH_VARIANTS
async def test_round_robin(town: Town, backends: Backends) -> None:
    """Endpoints take turns."""
    policy = "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"
    case = await made(town, backends, "round-robin", policy)
    found = await answered(case, 30)

    assert all(len(set(found[at : at + 3])) == 3 for at in range(28))


async def test_random(town: Town, backends: Backends) -> None:
    """Endpoints are drawn: none is left out, and they do not take turns."""
    policy = "trafficPolicy: {loadBalancer: {simple: RANDOM}}"
    case = await made(town, backends, "random", policy)
    found = await answered(case, 300)

    assert min(Counter(found)[name] for name in ("v1", "v2", "v3")) > 60
    assert any(first == second for first, second in pairwise(found))


async def test_least_request(town: Town, backends: Backends) -> None:
    """An endpoint that is busy gets fewer requests."""
    case = town.case("least-request")
    case.service(backends.v1, backends.v2)
    case.policy("trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}")
    await case.apply()
    slow = asyncio.create_task(case.send("/slow?delay=4"))
    both = (backends.v1, backends.v2)
    busy = await eventually(
        lambda: [each for each in both if case.received(each)], lambda found: len(found) == 1
    )
    found = Counter(await answered(case, 300))

    assert found[busy[0].name] / 300 < 0.38
    await slow


@pytest.mark.parametrize("ring", ["ringHash: {minimumRingSize: 2048}", "maglev: {tableSize: 211}"])
async def test_hash_of_a_header(town: Town, backends: Backends, ring: str) -> None:
    """Requests with the same header value go to one endpoint, others elsewhere too."""
    case = await made(
        town,
        backends,
        "hash-header",
        f"trafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: x-user, {ring}}}}}}}",
    )
    owners = {}
    for user in map(str, range(MANY)):
        found = {(await case.send(headers={"x-user": user})).backend for _ in range(4)}
        assert len(found) == 1
        owners[user] = found.pop()

    assert len(set(owners.values())) == 3


async def test_hash_of_a_query_parameter(town: Town, backends: Backends) -> None:
    """The same value of the parameter leads to one endpoint."""
    policy = "trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: user}}}"
    case = await made(town, backends, "hash-query", policy)
    found = [set(await answered(case, 4, f"/?user={user}")) for user in range(MANY)]

    assert all(len(each) == 1 for each in found)
    assert len(set.union(*found)) == 3


async def test_hash_of_a_cookie(town: Town, backends: Backends) -> None:
    """Envoy gives a cookie to who has none, and keeps its bearer at one endpoint."""
    cookie = "httpCookie: {name: user, path: /shop, ttl: 60s}"
    policy = f"trafficPolicy: {{loadBalancer: {{consistentHash: {{{cookie}}}}}}}"
    case = await made(town, backends, "hash-cookie", policy)
    first = await case.send()
    given = first.headers["set-cookie"]

    assert "Max-Age=60" in given
    assert "Path=/shop" in given
    bearer = {"cookie": given.partition(";")[0]}
    found = {(await case.send(headers=bearer)).backend for _ in range(12)}
    assert found == {first.backend}
    others = {(await case.send(headers={"cookie": f"user={name}"})).backend for name in range(MANY)}
    assert len(others) == 3


async def test_hash_of_the_source_address(town: Town, backends: Backends) -> None:
    """A client keeps its endpoint, whatever its connection."""
    policy = "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}"
    case = await made(town, backends, "hash-source", policy)
    found = []
    for number in range(1, MANY):
        async with HttpClient(keep_alive=False, source=f"127.0.0.{number}") as client:
            found.append({(await case.send(client=client)).backend for _ in range(2)})

    assert all(len(each) == 1 for each in found)
    assert len(set.union(*found)) == 3


async def test_hash_with_rules(town: Town, backends: Backends) -> None:
    """A VirtualService's routes hash as the policy of their destination says."""
    case = town.case("hash-subset")
    case.service(backends.v1, backends.v2, backends.v3)
    case.policy(
        """
        subsets:
        - name: all
          trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
        """
    )
    case.rule("http: [{route: [{destination: {host: <host>, subset: all}}]}]")
    await case.apply()
    found = {(await case.send(headers={"x-user": "ann"})).backend for _ in range(12)}

    assert len(found) == 1


async def statuses(case: Case, backend: HttpBackend, count: int) -> list[int]:
    """Statuses of slow requests, of which the first has its connection before the others come."""
    first = asyncio.create_task(case.send("/?delay=0.5"))
    await eventually(lambda: case.received(backend))
    others = (case.send("/?delay=0.5") for _ in range(count - 1))
    answers = [*(await asyncio.gather(*others)), await first]
    return sorted(each.status for each in answers)


async def limited(town: Town, backends: Backends, name: str, pool: str) -> Case:
    """A case with one endpoint and limits, and no retries that would blur what is refused."""
    case = town.case(name)
    case.service(backends.v1)
    case.policy(f"trafficPolicy: {{connectionPool: {pool}}}")
    case.rule("http: [{route: [{destination: {host: <host>}}], retries: {attempts: 0}}]")
    return await case.apply()


@BOTH_VARIANTS
async def test_limit_of_connections(town: Town, backends: Backends) -> None:
    """One request is served, one waits for the connection, all others are refused."""
    pool = "{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}"
    case = await limited(town, backends, "pool-connections", pool)

    assert await statuses(case, backends.v1, 5) == [200, 200, 503, 503, 503]
    assert len(case.received(backends.v1)) == 2


async def test_limit_of_requests(town: Town, backends: Backends) -> None:
    """`http2MaxRequests` bounds requests in flight, of HTTP/1 too."""
    case = await limited(town, backends, "pool-requests", "{http: {http2MaxRequests: 2}}")

    assert await statuses(case, backends.v1, 5) == [200, 200, 503, 503, 503]


async def test_limit_of_requests_per_connection(town: Town, backends: Backends) -> None:
    """Connections to the endpoint are replaced after so many requests."""
    pool = "{http: {maxRequestsPerConnection: 2}}"
    case = await limited(town, backends, "pool-renewal", pool)
    await answered(case, 6)

    assert len({each.peer for each in case.received(backends.v1)}) == 3


async def test_idle_connections_are_closed(town: Town, backends: Backends) -> None:
    """`idleTimeout` closes a connection that nobody uses."""
    case = await limited(town, backends, "pool-idle", "{http: {idleTimeout: 0.1s}}")
    await case.send()
    await eventually(
        lambda: town.envoy.stats(f"{case.host}.*upstream_cx_idle_timeout"),
        lambda found: sum(found.values()) == 1,
    )
    await case.send()

    assert len({each.peer for each in case.received(backends.v1)}) == 2


@BOTH_VARIANTS
async def test_outlier_detection(town: Town, backends: Backends) -> None:
    """An endpoint that answers with errors gets nothing any more."""
    async with HttpBackend("bad", status=500) as bad:
        case = town.case("outlier")
        case.service(backends.v1, bad)
        case.policy(f"trafficPolicy:{EJECT}")
        await case.apply()
        await eventually(
            lambda: answered(case, 10), lambda found: "bad" not in found, hint="not ejected"
        )
        before = bad.count()

        assert await answered(case, 20) == ["v1"] * 20
        assert 2 <= bad.count() == before


async def test_outlier_detection_of_gateway_errors(town: Town, backends: Backends) -> None:
    """`consecutiveGatewayErrors` counts 502, 503 and 504, and no others."""
    async with HttpBackend("bad", status=500) as bad:
        case = town.case("outlier-gateway")
        case.service(backends.v1, bad)
        case.policy(
            """
            trafficPolicy:
              loadBalancer: {simple: ROUND_ROBIN}
              outlierDetection:
                consecutiveGatewayErrors: 2
                consecutive5xxErrors: 0
                interval: 0.1s
                maxEjectionPercent: 100
            """
        )
        case.rule("http: [{route: [{destination: {host: <host>}}], retries: {attempts: 0}}]")
        await case.apply()
        assert Counter(await answered(case, 20))["bad"] == 10

        bad.status = 503
        await eventually(lambda: answered(case, 10), lambda found: "bad" not in found)


async def test_ejection_ends(town: Town, backends: Backends) -> None:
    """After `baseEjectionTime` the endpoint is tried again."""
    async with HttpBackend("bad", status=500) as bad:
        case = town.case("outlier-return")
        case.service(backends.v1, bad)
        case.policy(f"trafficPolicy:{EJECT.replace('60s', '0.5s')}")
        await case.apply()
        await eventually(lambda: answered(case, 6), lambda found: "bad" not in found)
        bad.status = 200
        await eventually(lambda: answered(case, 6), lambda found: "bad" in found)


@BOTH_VARIANTS
async def test_locality_failover(town: Town) -> None:
    """The proxy's own zone serves while it can; then its region, then the rest of the world."""
    async with (
        HttpBackend("near") as near,
        HttpBackend("region") as region,
        HttpBackend("far") as far,
    ):
        case = town.case("failover")
        places = [{"locality": f"{place}"} for place in ("us/us-1/a", "eu/eu-2/b", "eu/eu-1/a")]
        case.service(far, region, near, per_endpoint=places)
        case.policy(f"trafficPolicy:{EJECT}")
        await case.apply()

        assert await answered(case, 20) == ["near"] * 20
        await near.stop()
        await eventually(lambda: answered(case, 10), lambda found: set(found) == {"region"})
        await region.stop()
        await eventually(lambda: answered(case, 10), lambda found: set(found) == {"far"})


async def test_failover_needs_outlier_detection(town: Town, backends: Backends) -> None:
    """Without a way to see failures, places are all the same."""
    case = town.case("no-failover")
    places = [{"locality": place} for place in ("eu/eu-1/a", "us/us-1/a", "us/us-1/b")]
    case.service(backends.v1, backends.v2, backends.v3, per_endpoint=places)
    await case.apply()

    assert set(await answered(case, 30)) == {"v1", "v2", "v3"}


async def test_failover_to_a_chosen_region(town: Town, backends: Backends) -> None:
    """`failover` puts one region before other foreign ones."""
    case = town.case("failover-region")
    places = [{"locality": place} for place in ("us/us-1/a", "asia/asia-1/a")]
    case.service(backends.v1, backends.v2, per_endpoint=places)
    setting = "{localityLbSetting: {failover: [{from: eu, to: asia}]}}"
    case.policy(f"trafficPolicy:\n  loadBalancer: {setting}{EJECT}")
    await case.apply()

    assert await answered(case, 20) == ["v2"] * 20


async def test_failover_by_labels(town: Town, backends: Backends) -> None:
    """`failoverPriority` prefers endpoints with the proxy's own labels."""
    case = town.case("failover-labels")
    labels = [{"labels": {"version": version}} for version in ("v6", "v7", "v8")]
    case.service(backends.v1, backends.v2, backends.v3, per_endpoint=labels)
    setting = "{localityLbSetting: {failoverPriority: [version]}}"
    case.policy(f"trafficPolicy:\n  loadBalancer: {setting}{EJECT}")
    await case.apply()

    assert await answered(case, 20) == ["v2"] * 20


@BOTH_VARIANTS
async def test_locality_distribute(town: Town, backends: Backends) -> None:
    """Places share requests by their weights, and places without one get none."""
    case = town.case("distribute")
    places = [{"locality": place} for place in ("eu/eu-1/a", "us/us-1/a", "asia/asia-1/a")]
    case.service(backends.v1, backends.v2, backends.v3, per_endpoint=places)
    case.policy(
        """
        trafficPolicy:
          loadBalancer:
            localityLbSetting:
              distribute:
              - {from: eu/eu-1/*, to: {eu/eu-1/*: 70, us/*: 30}}
        """
    )
    await case.apply()
    found = Counter(await answered(case, 400))

    assert found["v1"] / 400 == pytest.approx(0.7, abs=0.12)
    assert found["v3"] == 0


async def test_weights_of_endpoints(town: Town, backends: Backends) -> None:
    """Endpoints share requests by the weights that their registry gives them."""
    case = town.case("endpoint-weights")
    case.service(backends.v1, backends.v2, per_endpoint=[{"weight": 3}, {"weight": 1}])
    case.policy("trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}")
    await case.apply()

    found = Counter(await answered(case, 80))
    assert found["v1"] == pytest.approx(60, abs=2)


async def test_policy_of_a_port(town: Town, backends: Backends) -> None:
    """`portLevelSettings` replace what holds for the other ports."""
    case = town.case("port-policy")
    case.service(backends.v1)
    case.policy(
        """
        trafficPolicy:
          tls: {mode: ISTIO_MUTUAL}
          portLevelSettings:
          - {port: {number: <port>}, tls: {mode: DISABLE}}
        """
    )
    await case.apply()

    assert (await case.send()).backend == "v1"


async def test_policy_for_other_proxies(town: Town, backends: Backends) -> None:
    """A DestinationRule with a `workloadSelector` holds for the proxies that it selects."""
    case = town.case("policy-selector")
    case.service(backends.v1)
    closed = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"
    case.policy(f"{closed}\nworkloadSelector: {{matchLabels: {{app: nobody}}}}")
    await case.apply()
    assert (await case.send()).backend == "v1"

    case.policy(f"{closed}\nworkloadSelector: {{matchLabels: {{app: caller}}}}")
    await case.apply()
    assert (await case.send()).status == 503
