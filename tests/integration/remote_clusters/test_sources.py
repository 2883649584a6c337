"""A folder of kubeconfigs and a cluster's secrets, both followed while they change."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.remote_clusters.adapter import RemoteClustersAdapter
from adapters.remote_clusters.settings import RemoteClustersSettings, SecretsSource
from aggregator.model.errors import AdapterUnavailableError
from aggregator.model.registry import Content, RegistryContext, ServiceItem, ShardKey
from aggregator.model.secret import Redacted, Secret
from aggregator.registry.aggregate import Aggregate
from tests.support.builders import endpoint
from tests.support.poll import eventually

SHARD = ShardKey("east", "istio-system", Content.SECRETS)
KUBECONFIG = """\
kind: Config
clusters: [{name: c, cluster: {server: "https://%s:6443"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
"""


class Finder:
    """An aggregate in which `more` finds clusters, and `east` tells secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aggregate = Aggregate(lambda _changes: None, clock=time.monotonic)
        self.east = self.aggregate.sink("east")
        self.synced = False
        self.task: asyncio.Task[None] | None = None
        self.context = RegistryContext(
            name="more", cluster_id="", rules=False, base_dir=str(folder.parent)
        )

    def _note_sync(self) -> None:
        self.synced = True

    @asynccontextmanager
    async def running(self, *, secrets: bool = False) -> AsyncIterator[None]:
        """Run the adapter once."""
        settings = RemoteClustersSettings(
            kubeconfigs=self.folder.name, secrets=SecretsSource("east") if secrets else None
        )
        adapter = RemoteClustersAdapter(self.context, settings)
        sink = self.aggregate.sink("more", self.context, self._note_sync)
        self.task = asyncio.create_task(adapter.run(sink))
        try:
            yield
        finally:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def write(self, name: str, text: str) -> None:
        """Put a file into the folder, all of it at once."""
        aside = self.folder / f".{name}"
        aside.write_text(text)
        aside.rename(self.folder / name)

    def tell(self, **kubeconfigs: str) -> None:
        """Have `east` tell one secret with these keys."""
        data = {key: Redacted(text.encode()) for key, text in kubeconfigs.items()}
        secret = Secret("istio-system", "remotes", data, created=1.0)
        self.east.update(SHARD, "istio-system/remotes", secret)

    def serve(self, cluster_id: str, count: int) -> None:
        """Have a cluster that was announced give so many endpoints."""
        endpoints = tuple(endpoint(f"10.1.0.{number}") for number in range(count))
        shard = ShardKey(cluster_id, "all", Content.SERVICES)
        item = ServiceItem("shop", "a.mesh", None, endpoints)
        self.aggregate.sink(cluster_id).replace(shard, {"a": item})

    def announced(self) -> dict[str, str]:
        """The servers of the clusters that are announced, by id."""
        found = self.aggregate.announced().get("more", ())
        texts = {each.name: each.credential.reveal().decode() for each in found}
        return {name: text.partition("//")[2].partition(":")[0] for name, text in texts.items()}

    def problems(self) -> list[str]:
        """What is wrong now."""
        return [str(each) for found in self.aggregate.problems().values() for each in found]


@pytest.fixture
def finder(tmp_path: Path) -> Finder:
    """Over an empty folder."""
    (tmp_path / "kubeconfigs").mkdir()
    return Finder(tmp_path / "kubeconfigs")


async def test_clusters_come_change_and_go_with_their_files(finder: Finder) -> None:
    """Adding a cluster takes a file and no restart."""
    finder.write("west.yaml", KUBECONFIG % "10.0.0.1")
    finder.write("notes.txt", "no kubeconfig")
    async with finder.running():
        await eventually(lambda: finder.synced)
        assert finder.announced() == {"west": "10.0.0.1"}

        finder.write("north.yaml", KUBECONFIG % "10.0.0.2")
        finder.write("west.yaml", KUBECONFIG % "10.0.0.3")
        await eventually(
            finder.announced, lambda found: found == {"north": "10.0.0.2", "west": "10.0.0.3"}
        )

        (finder.folder / "west.yaml").unlink()
        await eventually(finder.announced, lambda found: found == {"north": "10.0.0.2"})
        assert finder.problems() == []


async def test_a_broken_file_is_reported_and_keeps_its_cluster(finder: Finder) -> None:
    """Half a kubeconfig, or another file by mistake, ends no cluster that runs."""
    finder.write("west.yaml", KUBECONFIG % "10.0.0.1")
    finder.write("broken.yaml", "clusters: [")
    async with finder.running():
        await eventually(lambda: finder.synced)
        assert finder.announced() == {"west": "10.0.0.1"}
        (problem,) = finder.problems()
        assert f"{finder.folder}/broken.yaml:2: cluster broken: no kubeconfig" in problem

        finder.write("west.yaml", "kind: Secret")
        await eventually(finder.problems, lambda found: len(found) > 1)
        assert finder.announced() == {"west": "10.0.0.1"}

        finder.write("west.yaml", KUBECONFIG % "10.0.0.3")
        (finder.folder / "broken.yaml").unlink()
        await eventually(finder.announced, lambda found: found == {"west": "10.0.0.3"})
        await eventually(finder.problems, lambda found: not found)


async def test_the_only_file_is_deleted_like_any_other(finder: Finder) -> None:
    """Many have one remote cluster; what takes it away is no mistake of a mount."""
    finder.write("west.yaml", KUBECONFIG % "10.0.0.1")
    async with finder.running():
        await eventually(lambda: finder.synced)
        finder.serve("west", 50)

        (finder.folder / "west.yaml").unlink()

        await eventually(finder.announced, lambda found: not found)


async def test_several_files_that_vanish_together_are_not_believed_at_once(
    finder: Finder,
) -> None:
    """That is what a folder looks like whose content a tool writes anew."""
    finder.write("west.yaml", KUBECONFIG % "10.0.0.1")
    finder.write("north.yaml", KUBECONFIG % "10.0.0.2")
    async with finder.running():
        await eventually(lambda: finder.synced)
        finder.serve("west", 50)

        for name in ("west.yaml", "north.yaml"):
            (finder.folder / name).unlink()

        await eventually(lambda: finder.aggregate.summary("more").held)
        assert finder.announced() == {"north": "10.0.0.2", "west": "10.0.0.1"}


async def test_a_mounted_secret_is_followed(finder: Finder) -> None:
    """Kubernetes replaces all files of a mounted Secret at once, by one link."""
    for version, address in (("..1", "10.0.0.1"), ("..2", "10.0.0.2")):
        (finder.folder / version).mkdir()
        (finder.folder / version / "west.yaml").write_text(KUBECONFIG % address)
    (finder.folder / "..data").symlink_to("..1")
    (finder.folder / "west.yaml").symlink_to("..data/west.yaml")
    async with finder.running():
        await eventually(finder.announced, lambda found: found == {"west": "10.0.0.1"})

        (finder.folder / "..next").symlink_to("..2")
        (finder.folder / "..next").rename(finder.folder / "..data")

        await eventually(finder.announced, lambda found: found == {"west": "10.0.0.2"})


async def test_neither_source_speaks_for_the_other(finder: Finder) -> None:
    """An emptied folder takes no cluster of a secret away, nor the other way round."""
    finder.write("west.yaml", KUBECONFIG % "10.0.0.1")
    finder.tell(north=KUBECONFIG % "10.0.0.2")
    async with finder.running(secrets=True):
        await eventually(lambda: finder.synced)
        assert finder.announced() == {"north": "10.0.0.2", "west": "10.0.0.1"}

        (finder.folder / "west.yaml").unlink()
        await eventually(finder.announced, lambda found: found == {"north": "10.0.0.2"})

        finder.write("south.yaml", KUBECONFIG % "10.0.0.3")
        await eventually(finder.announced, lambda found: "south" in found)
        finder.east.replace(SHARD, {})
        await eventually(finder.announced, lambda found: found == {"south": "10.0.0.3"})


async def test_it_is_in_sync_once_both_sources_are(finder: Finder) -> None:
    """Until the secrets were listed, the clusters in them must not count as gone."""
    finder.write("west.yaml", KUBECONFIG % "10.0.0.1")
    async with finder.running(secrets=True):
        await eventually(finder.announced, lambda found: "west" in found)
        assert not finder.synced

        finder.east.replace(SHARD, {})

        await eventually(lambda: finder.synced)


async def test_secrets_count_though_the_folder_is_not_there(finder: Finder) -> None:
    """A folder that is not mounted yet keeps nobody from the clusters in secrets."""
    finder.folder.rmdir()
    finder.tell(north=KUBECONFIG % "10.0.0.2")
    async with finder.running(secrets=True):
        assert finder.task is not None
        await asyncio.wait([finder.task], timeout=10)

        error = finder.task.exception()
        assert isinstance(error, ExceptionGroup)
        assert [type(each) for each in error.exceptions] == [AdapterUnavailableError]
        assert finder.announced() == {"north": "10.0.0.2"}


async def test_what_was_announced_outlives_a_run(finder: Finder) -> None:
    """A folder that is away for a while takes no cluster with it; one file that was deleted
    meanwhile takes its own.
    """
    finder.write("west.yaml", KUBECONFIG % "10.0.0.1")
    finder.write("north.yaml", KUBECONFIG % "10.0.0.2")
    async with finder.running():
        await eventually(lambda: finder.synced)

    (finder.folder / "west.yaml").unlink()
    assert finder.announced() == {"north": "10.0.0.2", "west": "10.0.0.1"}
    async with finder.running():
        await eventually(finder.announced, lambda found: found == {"north": "10.0.0.2"})
