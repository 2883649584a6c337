"""Every golden case is taken by a real Envoy, over both protocol variants, one after the other."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final

import pytest
import pytest_asyncio
from google.protobuf import json_format
from msgspec import Struct

from aggregator.generators.spec import LISTENER, ROUTE
from aggregator.push.state import ViewState
from aggregator.xds.server import XdsServer
from aggregator.xds.stream import Stream
from tests.support.golden import Golden, GoldenSource, read_goldens
from tests.support.mesh import resource_types
from tests.support.poll import eventually
from tests.support.servers.envoy import Envoy, start_envoy

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

# gRPC's own clients have other resources, which their own tests take.
GOLDENS: Final = [each for each in read_goldens() if "GENERATOR" not in each.node.metadata]


class Bench(Struct, frozen=True, eq=False):
    """A control plane and one Envoy of one shape, which gets case by case."""

    source: GoldenSource
    server: XdsServer
    envoy: Envoy

    async def load(self, golden: Golden | None) -> None:
        """Have the Envoy get this case in the place of the one before."""
        self.source.load(golden)
        await self.source.engine.push()

    @property
    def stream(self) -> Stream:
        """The Envoy's only stream."""
        (stream,) = self.server.streams
        return stream

    def rejected(self) -> list[str]:
        """What the Envoy said against what it got."""
        subscriptions = self.stream.session.subscriptions.values()
        return [each.last_error for each in subscriptions if each.isolation.rejected]

    def missing(self) -> list[str]:
        """What the Envoy has not acknowledged of what there is for it."""
        view = self.stream.session.view
        assert isinstance(view, ViewState)
        missing = []
        for type_url, subscription in self.stream.session.subscriptions.items():
            wanted = view.snapshot(type_url).resources
            accepted = {} if subscription.unacknowledged else subscription.known.resources
            missing += [
                f"{subscription.kind.short} {name}"
                for name, resource in wanted.items()
                if name not in accepted or accepted[name].version != resource.version
            ]
            # What a draining listener may use goes late: clusters, and routes without a listener.
            routes = view.snapshot(ROUTE.type_url).resources
            missing += [
                f"without {name}"
                for name in accepted.keys() - wanted.keys()
                if subscription.kind is LISTENER or name.rpartition("/")[0] in routes
            ]
        return missing


StartBench = Callable[[Golden, str], Awaitable[Bench]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def benches(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StartBench]:
    """Starts an Envoy for each shape of proxy and variant, once."""
    folder = tmp_path_factory.mktemp("goldens")
    found: dict[str, Bench] = {}
    async with AsyncExitStack() as stack:

        async def start(golden: Golden, variant: str) -> Bench:
            node = json_format.MessageToDict(golden.node, preserving_proto_field_name=True)
            # Envoy says this itself.
            del node["user_agent_name"]
            key = f"{variant} {json.dumps(node, sort_keys=True)}"
            if key not in found:
                source = GoldenSource()
                server = XdsServer(source.engine, resource_types())
                port = await server.listen("127.0.0.1:0")
                stack.push_async_callback(server.aclose, 0)
                runner = asyncio.create_task(source.engine.run())
                stack.push_async_callback(_end, runner)
                envoy = await start_envoy(
                    f"127.0.0.1:{port}",
                    folder / str(len(found)),
                    delta=variant == "delta",
                    workers=1,
                    bootstrap={"node": node},
                )
                stack.push_async_callback(envoy.stop)
                found[key] = Bench(source, server, envoy)
            return found[key]

        yield start


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("variant", ["delta", "sotw"])
@pytest.mark.parametrize("golden", GOLDENS, ids=lambda each: each.name)
async def test_envoy_takes_it(benches: StartBench, golden: Golden, variant: str) -> None:
    """All resources of the case are acknowledged and none is rejected; nothing else stays."""
    bench = await benches(golden, variant)
    await bench.load(golden)
    try:
        await eventually(bench.missing, lambda missing: bench.rejected() or not missing)
        assert not bench.rejected()
    finally:
        await bench.load(None)
