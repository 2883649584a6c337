"""Whatever happened before, every view is what it would be if it were built from nothing."""

import asyncio
from collections.abc import Sequence

import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.model.proxy import Proxy
from aggregator.push.engine import Engine
from aggregator.push.state import Cause, ViewDiff, ViewState
from config.kinds.sidecar import Sidecar
from config.kinds.virtual_service import VirtualService
from config.mesh import MeshConfig
from tests.support.builders import endpoint, rule, service
from tests.support.history import PutConfig, PutService, Step, meshes, play, proxies, steps
from tests.support.mesh import MemorySource, make_engine, resource_types


class Follower:
    """A stream that keeps its own copy of the view by what it is told."""

    def __init__(self) -> None:
        self.view: ViewState | None = None
        self.copy: dict[str, dict[str, str]] = {}

    def view_changed(self, diff: ViewDiff, cause: Cause) -> None:
        assert self.view is not None
        for type_url, names in diff.items():
            mine = self.copy.setdefault(type_url, {})
            for name in names:
                resource = self.view.resource(type_url, name)
                if resource is None:
                    mine.pop(name, None)
                else:
                    mine[name] = resource.version

    def view_moved(self, view: ViewState) -> None:
        self.view = view
        self.copy = versions(view)


def versions(view: ViewState) -> dict[str, dict[str, str]]:
    """All resources by type and name."""
    return {
        type_url: {name: each.version for name, each in view.snapshot(type_url).resources.items()}
        for type_url in resource_types()
    }


async def connect(engine: Engine, proxy: Proxy, vhds: bool) -> Follower:
    """Attach a follower."""
    follower = Follower()
    follower.view_moved(await engine.attach(follower, proxy, vhds=vhds))
    return follower


async def replay(
    first: MeshConfig,
    batches: Sequence[tuple[Sequence[Step], MeshConfig | None, tuple[Proxy, bool] | None]],
    connected: Sequence[tuple[Proxy, bool]],
) -> None:
    source = MemorySource()
    engine = make_engine(source, mesh=first)
    followers = [(each, await connect(engine, *each)) for each in connected]
    mesh = first
    for batch, other_mesh, newcomer in batches:
        for step in batch:
            engine.submit(play(step, source))
        if other_mesh is not None:
            mesh = other_mesh
            engine.set_mesh(mesh)
        if newcomer is not None:
            followers.append((newcomer, await connect(engine, *newcomer)))
        await engine.push()
    fresh = make_engine(source, mesh=mesh)
    for (proxy, vhds), follower in followers:
        expected = await connect(fresh, proxy, vhds)
        assert follower.view is not None
        assert expected.view is not None
        assert follower.view.key == expected.view.key
        assert versions(follower.view) == expected.copy
        assert {t: c for t, c in follower.copy.items() if c} == {
            t: c for t, c in expected.copy.items() if c
        }
    assert engine.problems() == fresh.problems() or len(engine.views) > len(fresh.views)
    for _, follower in followers:
        engine.detach(follower)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    first=meshes(),
    batches=st.lists(
        st.tuples(
            st.lists(steps(), max_size=5),
            st.one_of(st.none(), st.none(), meshes()),
            st.one_of(st.none(), st.none(), proxies()),
        ),
        min_size=1,
        max_size=5,
    ),
    connected=st.lists(proxies(), min_size=1, max_size=3),
)
def test_incremental_pushes_end_where_a_fresh_build_does(
    first: MeshConfig,
    batches: list[tuple[list[Step], MeshConfig | None, tuple[Proxy, bool] | None]],
    connected: list[tuple[Proxy, bool]],
) -> None:
    """A forgotten input would leave a proxy with stale configuration for good."""
    with structlog.testing.capture_logs():
        asyncio.run(replay(first, batches, connected))


async def test_rule_that_is_exported_to_others_hides_where_it_leads() -> None:
    """A service that a Sidecar does not import is seen only as long as an imported rule leads to
    it.
    """
    there, elsewhere = "a.farm.svc.cluster.local", "b.bank.svc.cluster.local"
    services = [PutService(service(host), (endpoint(),)) for host in (there, elsewhere)]
    scope = rule(Sidecar, {"egress": [{"hosts": ["farm/*"]}]}, name="scope", namespace="shop")

    def leading(*export_to: str) -> PutConfig:
        route = {"route": [{"destination": {"host": elsewhere}}]}
        spec = {"hosts": [there], "http": [route], "exportTo": list(export_to)}
        return PutConfig(rule(VirtualService, spec, namespace="farm"))

    client = (Proxy(id="p", namespace="shop", domain="shop.svc.cluster.local"), True)
    first: list[Step] = [*services, PutConfig(scope), leading("*")]
    for last in ("farm", "*"):
        await replay(
            MeshConfig(),
            [(first, None, None), ([leading("farm")], None, None), ([leading(last)], None, None)],
            [client],
        )
