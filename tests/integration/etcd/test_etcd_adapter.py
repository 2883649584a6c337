"""What is in an etcd, and what happens to its keys, is in the mesh."""

import json

import pytest

from tests.support.etcd_follower import following, instance, service
from tests.support.poll import eventually
from tests.support.servers.etcd import EtcdServer

pytestmark = pytest.mark.servers


async def test_services_instances_and_rules_are_read_and_followed(etcd: EtcdServer) -> None:
    """The plain case."""
    async with etcd.client() as client, following(etcd, prefix="/plain/") as follower:
        await client.put("/plain/services/shop/a.mesh", service("10.0.0.1"))
        await client.put("/plain/instances/shop/a.mesh/one", instance("10.0.0.2"))
        await eventually(lambda: follower.addresses() == ["10.0.0.1", "10.0.0.2"])
        await client.delete("/plain/instances/shop/a.mesh/one")
        await eventually(lambda: follower.addresses() == ["10.0.0.1"])
        await client.delete("/plain/services/shop/a.mesh")
        await eventually(lambda: follower.hosts() == [])
        assert follower.problems() == []


async def test_a_rule_is_taken_unless_the_registry_gives_none(etcd: EtcdServer) -> None:
    """The common switch holds here too, and then the keys are not even read."""
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"hosts": ["a.mesh"], "http": [{"route": [{"destination": {"host": "a.mesh"}}]}]},
    }
    async with etcd.client() as client:
        await client.put("/rules/rules/a", json.dumps(rule))
        async with following(etcd, prefix="/rules/") as follower:
            (key,) = follower.aggregate.config_keys()
            assert str(key) == "VirtualService shop/a"
            await client.put("/rules/rules/a", json.dumps(rule | {"metadata": {"name": "b"}}))
            await eventually(
                lambda: (
                    list(map(str, follower.aggregate.config_keys())) == ["VirtualService default/b"]
                )
            )
        async with following(etcd, prefix="/rules/", rules=False) as follower:
            assert not follower.aggregate.config_keys()


async def test_keys_of_one_transaction_take_effect_in_one_step(etcd: EtcdServer) -> None:
    """An endpoint that moves from one service to another is never in both or none."""
    states: list[tuple[list[str], list[str]]] = []
    async with etcd.client() as client, following(etcd, prefix="/txn/") as follower:
        await client.put_all(
            {
                "/txn/services/shop/a.mesh": service("10.0.0.1"),
                "/txn/services/shop/b.mesh": service(),
            }
        )
        await eventually(lambda: follower.hosts() == ["a.mesh", "b.mesh"])
        follower.after_changes(
            lambda: states.append((follower.addresses("a.mesh"), follower.addresses("b.mesh")))
        )
        await client.put_all(
            {
                "/txn/services/shop/a.mesh": service(),
                "/txn/services/shop/b.mesh": service("10.0.0.1"),
            }
        )
        await eventually(lambda: follower.addresses("b.mesh") == ["10.0.0.1"])
        await eventually(lambda: len(states) >= 1)
    assert states == [([], ["10.0.0.1"])]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff\xfe\x00", "expected UTF-8 text, found byte 0xff"),
        (b"{", "did not find expected node content"),
        (b"apiVersion: mesh-aggregator/v1\nkind: Service\nports: 3\n", "expected a list, found 3"),
    ],
)
async def test_a_bad_key_keeps_what_it_said_and_harms_no_other(
    etcd: EtcdServer, value: bytes, message: str
) -> None:
    """One slip must not take anything away."""
    prefix = f"/bad-{len(value)}/"
    async with etcd.client() as client:
        await client.put(f"{prefix}services/shop/a.mesh", service("10.0.0.1"))
        async with following(etcd, prefix=prefix) as follower:
            await client.put(f"{prefix}services/shop/a.mesh", value)
            await client.put(f"{prefix}services/shop/b.mesh", service("10.0.0.2"))
            await eventually(lambda: follower.hosts() == ["a.mesh", "b.mesh"])
            assert follower.addresses() == ["10.0.0.1"]
            (problem,) = follower.problems()
            assert f"kv:{prefix}services/shop/a.mesh" in problem
            assert message in problem

            await client.put(f"{prefix}services/shop/a.mesh", service("10.0.0.3"))
            await eventually(lambda: follower.addresses() == ["10.0.0.3"])
            assert follower.problems() == []


async def test_keys_that_nobody_could_mean_are_told_and_left_out(etcd: EtcdServer) -> None:
    """Keys may be any bytes, and end in slashes."""
    async with etcd.client() as client:
        await client.put("/odd/services/shop/a.mesh", service())
        for key in ("services/", "services/shop/", "instances/x", "service/shop/b.mesh", "x"):
            await client.put(f"/odd/{key}", service())
        await client.call("kv/put", {"key": "L29kZC9zZXJ2aWNlcy//", "value": "eA=="})
        async with following(etcd, prefix="/odd/", relist=0.2) as follower:
            assert follower.hosts() == ["a.mesh"]
            problems = "\n".join(follower.problems())
            assert len(follower.problems()) == 6
            assert "kv:/odd/services/\\xff: expected a key in UTF-8" in problems
            assert "kv:/odd/service/shop/b.mesh: nothing reads this key" in problems
            # The key "services/" must not stand for all keys below it.
            await client.delete("/odd/services/shop/a.mesh")
            await eventually(lambda: follower.hosts() == [])
            await client.delete("/odd/", prefix=True)
            await eventually(lambda: follower.problems() == [])


async def test_an_instance_goes_with_its_lease(etcd: EtcdServer) -> None:
    """Its owner has died, and nobody keeps the lease alive."""
    async with etcd.client() as client, following(etcd, prefix="/lease/") as follower:
        await client.put("/lease/services/shop/a.mesh", service("10.0.0.1"))
        lease = await client.grant(2)
        await client.put("/lease/instances/shop/a.mesh/1", instance("10.0.0.2"), lease=lease)
        await eventually(lambda: follower.addresses() == ["10.0.0.1", "10.0.0.2"])
        await eventually(lambda: follower.addresses() == ["10.0.0.1"], seconds=20)


async def test_leases_that_all_run_out_are_not_believed_at_once(etcd: EtcdServer) -> None:
    """More likely etcd was away from its clients than all of them died; deletion is believed."""
    async with etcd.client() as client:
        await client.put("/expiry/services/shop/a.mesh", service())
        lease, other = await client.grant(60), await client.grant(60)
        for number in range(1, 31):
            key = f"/expiry/instances/shop/a.mesh/{number}"
            await client.put(key, instance(f"10.0.0.{number}"), lease=lease)
        async with following(etcd, prefix="/expiry/") as follower:
            await client.revoke(lease)
            await eventually(lambda: follower.status.held)
            assert len(follower.addresses()) == 30

            for number in range(1, 31):
                key = f"/expiry/instances/shop/a.mesh/{number}"
                await client.put(key, instance(f"10.0.0.{number}"), lease=other)
            await eventually(lambda: not follower.status.held)
            await client.delete("/expiry/instances/", prefix=True)
            await eventually(lambda: follower.addresses() == [])
