"""What is announced while the secrets of another registry change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.remote_clusters.adapter import RemoteClustersAdapter
from adapters.remote_clusters.settings import RemoteClustersSettings, SecretsSource
from aggregator.model.errors import Origin
from aggregator.model.registry import Content, RegistryContext, RegistrySink, ShardKey
from aggregator.model.secret import Redacted, Secret
from aggregator.registry.aggregate import Aggregate
from tests.support.clock import FakeClock, settle
from tests.unit.adapters.remote_clusters.test_decode import kubeconfig

CONTEXT = RegistryContext(name="more", cluster_id="", rules=False)
SHARD = ShardKey("east", "istio-system", Content.SECRETS)


class Cluster:
    """The cluster `east` with its secrets, and what `more` makes of them."""

    def __init__(self) -> None:
        self.aggregate = Aggregate(lambda _changes: None, clock=FakeClock())
        self.east: RegistrySink = self.aggregate.sink("east")
        self.synced = False

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Run `more`."""
        settings = RemoteClustersSettings(secrets=SecretsSource("east"))
        adapter = RemoteClustersAdapter(CONTEXT, settings)
        sink = self.aggregate.sink("more", CONTEXT, self._note_sync)
        task = asyncio.create_task(adapter.run(sink))
        await settle()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _note_sync(self) -> None:
        self.synced = True

    def announced(self) -> dict[str, bytes]:
        """The kubeconfigs by cluster id."""
        found = self.aggregate.announced().get("more", ())
        return {each.name: each.credential.reveal() for each in found}

    def problems(self) -> list[str]:
        """What `more` reports."""
        return [
            str(problem)
            for (registry, _), problems in self.aggregate.problems().items()
            for problem in problems
            if registry == "more"
        ]


def secret(name: str, namespace: str = "istio-system", **data: bytes) -> Secret:
    """A secret with these keys."""
    return Secret(
        namespace,
        name,
        {key: Redacted(value) for key, value in data.items()},
        origin=Origin(f"east/{namespace}/{name}"),
    )


A, B = kubeconfig(token="a"), kubeconfig(token="b")


async def test_it_is_in_sync_once_the_secrets_were_listed() -> None:
    """Before that nobody can say which clusters there are."""
    cluster = Cluster()
    async with cluster.followed():
        assert not cluster.synced

        cluster.east.replace(SHARD, {})
        await settle()

        assert cluster.synced
        assert cluster.announced() == {}


async def test_keys_come_change_and_go_with_their_secrets() -> None:
    """One secret may hold several clusters; those of other namespaces do not count."""
    cluster = Cluster()
    cluster.east.replace(
        SHARD, {"1": secret("one", west=A, north=A), "2": secret("other", "shop", south=A)}
    )
    async with cluster.followed():
        assert cluster.announced() == {"north": A, "west": A}

        cluster.east.update(SHARD, "3", secret("two", south=A))
        cluster.east.update(SHARD, "1", secret("one", west=B))
        await settle()
        assert cluster.announced() == {"south": A, "west": B}

        cluster.east.update(SHARD, "1", None)
        await settle()
        assert cluster.announced() == {"south": A}


async def test_a_listing_that_lacks_a_secret_ends_its_cluster() -> None:
    """What was deleted while the watch was broken is gone after the next listing."""
    cluster = Cluster()
    cluster.east.replace(SHARD, {"1": secret("one", west=A), "2": secret("two", south=A)})
    async with cluster.followed():
        cluster.east.replace(SHARD, {"2": secret("two", south=A)})
        await settle()

        assert cluster.announced() == {"south": A}


async def test_a_broken_key_keeps_its_cluster() -> None:
    """A typo in a kubeconfig is reported and takes no endpoint away, over restarts too."""
    cluster = Cluster()
    cluster.east.replace(SHARD, {"1": secret("one", west=A, north=A)})
    async with cluster.followed():
        cluster.east.update(SHARD, "1", secret("one", west=b"[", north=B))
        await settle()
        assert cluster.announced() == {"north": B, "west": A}
        (problem,) = cluster.problems()
        assert "Secret istio-system/one, cluster west" in problem

    async with cluster.followed():
        assert cluster.announced() == {"north": B, "west": A}
        assert len(cluster.problems()) == 1

        cluster.east.update(SHARD, "1", secret("one", west=B, north=B))
        await settle()
        assert cluster.announced() == {"north": B, "west": B}
        assert cluster.problems() == []


async def test_a_broken_key_that_is_taken_out_ends_its_cluster() -> None:
    """The last good kubeconfig is not kept for a key that nobody wants any more."""
    cluster = Cluster()
    cluster.east.replace(SHARD, {"1": secret("one", west=A, north=A)})
    async with cluster.followed():
        cluster.east.update(SHARD, "1", secret("one", north=b"["))
        await settle()

        assert cluster.announced() == {"north": A}


async def test_it_is_said_when_no_secrets_are_heard_of() -> None:
    """A misspelt registry would otherwise look like one without secrets."""
    cluster = Cluster()
    settings = RemoteClustersSettings(secrets=SecretsSource("eats"))
    adapter = RemoteClustersAdapter(CONTEXT, settings, patience=0.0)
    task = asyncio.create_task(adapter.run(cluster.aggregate.sink("more", CONTEXT)))
    await settle()

    (problem,) = cluster.problems()
    assert "the registry 'eats' has told of no secrets yet" in problem
    cluster.aggregate.sink("eats").replace(ShardKey("eats", "x", Content.SECRETS), {})
    await settle()
    assert cluster.problems() == []
    task.cancel()
    await asyncio.wait([task])
