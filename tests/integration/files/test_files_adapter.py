"""A folder that is followed by the real watcher, into a real aggregate."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from watchfiles import Change as Events
from watchfiles import awatch

from adapters.files.adapter import ADAPTER, FilesAdapter, FilesSettings
from aggregator.model.change import Change, EndpointsChanged, ServiceChanged
from aggregator.model.errors import AdapterUnavailableError
from aggregator.model.registry import RegistryContext
from aggregator.model.service import ServiceKey
from aggregator.registry.aggregate import Aggregate
from aggregator.registry.guard import GuardSettings, LossGuard
from config.duration import Duration
from tests.support.poll import eventually


def text(host: str, *addresses: str) -> str:
    """A file with one service."""
    endpoints = "".join(f"  - {{address: {address}}}\n" for address in addresses)
    return (
        f"services:\n- host: {host}.shop.mesh\n  namespace: shop\n"
        f"  ports: [{{number: 80, protocol: HTTP}}]\n  endpoints:\n{endpoints}"
    )


class Follower:
    """An aggregate that follows a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changes: list[Change] = []
        self.aggregate = Aggregate(
            self.changes.extend,
            clock=time.monotonic,
            guard=LossGuard(GuardSettings(hold=Duration(3600), confirm=Duration(3600))),
        )
        self.synced = asyncio.Event()
        self.context = RegistryContext(name="vms", cluster_id="vms", base_dir=str(path.parent))

    def addresses(self, host: str) -> list[str]:
        """Where a service is served."""
        key = ServiceKey("shop", f"{host}.shop.mesh")
        return [each.address for each in self.aggregate.endpoints(key)]

    def hosts(self) -> list[str]:
        """The services that are there."""
        return sorted(key.host.partition(".")[0] for key in self.aggregate.service_keys())

    def problems(self) -> list[str]:
        """What is wrong now."""
        return [str(each) for found in self.aggregate.problems().values() for each in found]


@asynccontextmanager
async def following(
    path: Path,
    *,
    rescan: float = 30.0,
    recursive: bool = True,
    events: Callable[..., AsyncGenerator[set[tuple[Events, str]], None]] = awatch,
) -> AsyncIterator[Follower]:
    """Follow a folder until the block ends."""
    follower = Follower(path)
    settings = FilesSettings(path.name, recursive=recursive)
    adapter = FilesAdapter(follower.context, settings, rescan=rescan, events=events)
    sink = follower.aggregate.sink("vms", follower.context, follower.synced.set)
    task = asyncio.create_task(adapter.run(sink))
    async with asyncio.timeout(10):
        synced = asyncio.create_task(follower.synced.wait())
        await asyncio.wait([synced, task], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield follower
        assert not task.done()
    finally:
        task.cancel()
        synced.cancel()
        await asyncio.gather(task, synced, return_exceptions=True)


async def told_nothing(*_: object, **__: object) -> AsyncGenerator[set[tuple[Events, str]], None]:
    """A system that tells the watcher nothing."""
    await asyncio.Event().wait()
    yield set()


async def refused(*_: object, **__: object) -> AsyncGenerator[set[tuple[Events, str]], None]:
    """A system that has no watches left."""
    raise OSError(28, "OS file watch limit reached")
    yield set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "services"
    path.mkdir()
    return path


def replace(path: Path, content: str) -> None:
    """Write the way careful programs do."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(content)
    temporary.rename(path)


def make_anew(folder: Path, aside: Path) -> None:
    """Have another, empty folder in its place."""
    move(folder, aside)
    shutil.rmtree(aside)
    folder.mkdir()


def move(folder: Path, target: Path) -> None:
    """Move a folder away."""
    folder.rename(target)


async def test_what_lies_there_at_the_start_is_read(folder: Path) -> None:
    """The plain case."""
    (folder / "team").mkdir()
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    (folder / "team" / "b.yaml").write_text(text("b", "10.0.0.2"))

    async with following(folder) as follower:
        assert follower.hosts() == ["a", "b"]
        assert follower.problems() == []


async def test_files_come_change_and_go_while_it_runs(folder: Path) -> None:
    """Hot, without a restart."""
    async with following(folder) as follower:
        (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
        await eventually(lambda: follower.addresses("a") == ["10.0.0.1"])

        (folder / "b.yaml").write_text(text("b", "10.0.0.2"))
        replace(folder / "a.yaml", text("a", "10.0.0.1", "10.0.0.3"))
        await eventually(lambda: follower.addresses("a") == ["10.0.0.1", "10.0.0.3"])
        await eventually(lambda: follower.hosts() == ["a", "b"])

        (folder / "a.yaml").unlink()
        await eventually(lambda: follower.hosts() == ["b"])


async def test_a_relative_path_is_followed_and_shown_as_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages name files the way that whoever started it would."""
    monkeypatch.chdir(folder.parent)
    async with following(Path("services")) as follower:
        (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
        (folder / "b.yaml").write_text("services: [")
        await eventually(lambda: follower.hosts() == ["a"])
        await eventually(lambda: len(follower.problems()) == 1)

        assert follower.problems()[0].startswith("services/b.yaml:")


async def test_a_lone_change_is_one_event(folder: Path) -> None:
    """One endpoint in one file among many is told as just that."""
    for number in range(50):
        (folder / f"s{number}.yaml").write_text(text(f"s{number}", "10.0.0.1"))
    async with following(folder) as follower:
        follower.changes.clear()
        merges = follower.aggregate.merge_total
        replace(folder / "s7.yaml", text("s7", "10.0.0.1", "10.0.0.2"))
        await eventually(lambda: bool(follower.changes))

        assert follower.changes == [EndpointsChanged(ServiceKey("shop", "s7.shop.mesh"))]
        assert follower.aggregate.merge_total == merges + 1


async def test_rewritten_with_the_same_bytes_it_is_not_even_decoded(folder: Path) -> None:
    """Tools that render all files anew change nothing."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    async with following(folder) as follower:
        follower.changes.clear()
        replace(folder / "a.yaml", text("a", "10.0.0.1"))
        (folder / "b.yaml").write_text(text("b", "10.0.0.2"))
        await eventually(lambda: follower.hosts() == ["a", "b"])

        assert follower.changes == [ServiceChanged(ServiceKey("shop", "b.shop.mesh"))]


async def test_a_renamed_file_keeps_its_services(folder: Path) -> None:
    """Tidying up must not cost a request."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    (folder / "other.yaml").write_text(text("other", "10.0.0.9"))
    async with following(folder) as follower:
        (folder / "a.yaml").rename(folder / "renamed.yaml")
        await eventually(
            lambda: (
                [
                    each.scope
                    for each in follower.aggregate.contributions(ServiceKey("shop", "a.shop.mesh"))
                ]
                == ["renamed.yaml"]
            )
        )

        assert follower.addresses("a") == ["10.0.0.1"]
        assert follower.aggregate.conflicts() == ()


async def test_a_config_map_that_is_updated_is_read_anew(folder: Path) -> None:
    """The kubelet swaps one hidden link, and no file by name."""

    def mount(version: str, content: str) -> None:
        target = folder / f"..{version}"
        target.mkdir()
        (target / "a.yaml").write_text(content)
        (folder / "..data_tmp").symlink_to(target.name)
        (folder / "..data_tmp").rename(folder / "..data")

    mount("1", text("a", "10.0.0.1"))
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    async with following(folder) as follower:
        assert follower.addresses("a") == ["10.0.0.1"]
        mount("2", text("a", "10.0.0.2"))
        shutil.rmtree(folder / "..1")

        await eventually(lambda: follower.addresses("a") == ["10.0.0.2"])
        assert follower.problems() == []


async def test_a_broken_file_keeps_its_last_good_state_alone(folder: Path) -> None:
    """One typing error harms nobody, and nothing else is held back by it."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    (folder / "b.yaml").write_text(text("b", "10.0.0.2"))
    async with following(folder) as follower:
        broken = text("a", "10.0.0.9").replace("number: 80", "number: 99999")
        replace(folder / "a.yaml", broken)
        replace(folder / "b.yaml", text("b", "10.0.0.3"))
        await eventually(lambda: follower.addresses("b") == ["10.0.0.3"])
        await eventually(lambda: bool(follower.problems()))

        assert follower.addresses("a") == ["10.0.0.1"]
        (problem,) = follower.problems()
        assert problem.startswith(f"{folder}/a.yaml:4: services[0].ports[0].number: ")

        replace(folder / "a.yaml", text("a", "10.0.0.9"))
        await eventually(lambda: follower.problems() == [])
        assert follower.addresses("a") == ["10.0.0.9"]


async def test_a_broken_file_put_back_as_it_was_is_fine_again(folder: Path) -> None:
    """Undoing an edit is the usual way to mend it."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    async with following(folder) as follower:
        replace(folder / "a.yaml", "services: [")
        await eventually(lambda: bool(follower.problems()))
        replace(folder / "a.yaml", text("a", "10.0.0.1"))
        await eventually(lambda: not follower.problems())

        assert follower.addresses("a") == ["10.0.0.1"]


async def test_a_link_that_leads_somewhere_again_is_fine_again(
    folder: Path, tmp_path: Path
) -> None:
    """A disk that was not mounted for a while leaves neither a gap nor a stale message."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "a.yaml").write_text(text("a", "10.0.0.1"))
    (folder / "a.yaml").symlink_to(disk / "a.yaml")
    async with following(folder, rescan=0.1) as follower:
        move(disk, tmp_path / "unmounted")
        await eventually(lambda: bool(follower.problems()))
        assert follower.hosts() == ["a"]
        assert "the link leads nowhere" in follower.problems()[0]

        move(tmp_path / "unmounted", disk)
        await eventually(lambda: not follower.problems())
        assert follower.hosts() == ["a"]


async def test_a_deleted_broken_file_takes_its_problems_along(folder: Path) -> None:
    """Nothing is wrong with what is not there."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    (folder / "b.yaml").write_text("services: [")
    async with following(folder) as follower:
        assert len(follower.problems()) == 1
        (folder / "b.yaml").unlink()
        await eventually(lambda: not follower.problems())


async def test_a_burst_of_changes_ends_exact(folder: Path) -> None:
    """A deployment writes hundreds of files at once, some twice, some the hard way."""
    for number in range(0, 500, 2):
        (folder / f"s{number}.yaml").write_text(text(f"s{number}", "10.0.0.1"))
    async with following(folder) as follower:
        for number in range(500):
            path = folder / f"s{number}.yaml"
            match number % 5:
                case 0:
                    path.unlink(missing_ok=True)
                case 1:
                    replace(path, text(f"s{number}", "10.0.0.2"))
                    replace(path, text(f"s{number}", "10.0.0.3"))
                case _:
                    path.write_text(text(f"s{number}", "10.0.0.3"))
        expected = sorted(f"s{number}" for number in range(500) if number % 5)
        await eventually(
            lambda: (
                follower.hosts() == expected
                and all(follower.addresses(host) == ["10.0.0.3"] for host in expected)
            )
        )


async def test_new_folders_are_followed_too(folder: Path) -> None:
    """Also when they come with files in them, and when they are moved or deleted as a whole."""
    async with following(folder) as follower:
        (folder / "team" / "deep").mkdir(parents=True)
        (folder / "team" / "deep" / "a.yaml").write_text(text("a", "10.0.0.1"))
        await eventually(lambda: follower.hosts() == ["a"])
        await asyncio.sleep(0.1)
        (folder / "team" / "deep" / "b.yaml").write_text(text("b", "10.0.0.1"))
        (folder / "c.yaml").write_text(text("c", "10.0.0.1"))
        await eventually(lambda: follower.hosts() == ["a", "b", "c"])

        (folder / "team").rename(folder / "squad")
        await eventually(
            lambda: (
                [
                    each.scope
                    for each in follower.aggregate.contributions(ServiceKey("shop", "b.shop.mesh"))
                ]
                == ["squad/deep/b.yaml"]
            )
        )
        shutil.rmtree(folder / "squad")
        await eventually(lambda: follower.hosts() == ["c"])


async def test_a_folder_named_like_a_file_is_followed(folder: Path) -> None:
    """The watcher tells of a path; what it is has to be looked at."""
    async with following(folder) as follower:
        (folder / "x.yaml").mkdir()
        (folder / "x.yaml" / "a.yaml").write_text(text("a", "10.0.0.1"))
        await eventually(lambda: follower.hosts() == ["a"])
        assert follower.problems() == []


async def test_an_emptied_folder_is_not_believed_at_once(folder: Path) -> None:
    """A volume that is not mounted looks just like this."""
    for number in range(100):
        (folder / f"s{number}.yaml").write_text(text(f"s{number}", "10.0.0.1"))
    async with following(folder) as follower:
        for number in range(100):
            (folder / f"s{number}.yaml").unlink()
        await eventually(lambda: bool(follower.aggregate.summary("vms").held))
        assert len(follower.hosts()) == 100

        (folder / "s1.yaml").write_text(text("s1", "10.0.0.7"))
        await eventually(lambda: follower.addresses("s1") == ["10.0.0.7"])
        assert len(follower.hosts()) == 100


async def test_a_folder_that_is_emptied_in_steps_is_seen_as_one(folder: Path) -> None:
    """Deleting a large tree takes a while; the first half must not be believed either."""
    for number in range(100):
        (folder / f"s{number}.yaml").write_text(text(f"s{number}", "10.0.0.1"))
    async with following(folder) as follower:
        for start in range(0, 100, 25):
            for number in range(start, start + 25):
                (folder / f"s{number}.yaml").unlink()
            await asyncio.sleep(0.02)
        await eventually(lambda: bool(follower.aggregate.summary("vms").held))

        assert len(follower.hosts()) == 100


async def test_one_deleted_file_of_several_is_believed(folder: Path) -> None:
    """Deleting a file is how people say that a service is gone, however large it is."""
    services = "".join(text(f"s{n}", "10.0.0.1").removeprefix("services:\n") for n in range(100))
    (folder / "many.yaml").write_text("services:\n" + services)
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    async with following(folder) as follower:
        assert len(follower.hosts()) == 101
        (folder / "many.yaml").unlink()
        await eventually(lambda: follower.hosts() == ["a"])


async def test_an_edit_that_takes_out_most_is_believed(folder: Path) -> None:
    """The guard is for absences, not for what somebody wrote."""
    services = "".join(text(f"s{n}", "10.0.0.1").removeprefix("services:\n") for n in range(100))
    (folder / "many.yaml").write_text("services:\n" + services)
    async with following(folder) as follower:
        replace(folder / "many.yaml", text("s0", "10.0.0.1"))
        await eventually(lambda: follower.hosts() == ["s0"])


async def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """And no empty registry."""
    follower = Follower(tmp_path / "gone")
    adapter = ADAPTER.create(follower.context, FilesSettings("gone"))

    with pytest.raises(AdapterUnavailableError, match="gone: no such file"):
        await adapter.run(follower.aggregate.sink("vms"))


async def test_a_folder_that_goes_away_ends_the_run_and_keeps_all(folder: Path) -> None:
    """The supervisor asks again; meanwhile everything is served."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    follower = Follower(folder)
    adapter = FilesAdapter(follower.context, FilesSettings("services"))
    task = asyncio.create_task(
        adapter.run(follower.aggregate.sink("vms", None, follower.synced.set))
    )
    await follower.synced.wait()

    move(folder, folder.with_name("elsewhere"))

    async with asyncio.timeout(5):
        with pytest.raises(AdapterUnavailableError):
            await task
    assert follower.hosts() == ["a"]


async def test_another_folder_in_its_place_is_followed(folder: Path) -> None:
    """Releases are switched by a link."""
    for release, address in (("one", "10.0.0.1"), ("two", "10.0.0.2")):
        (folder / release).mkdir()
        (folder / release / "a.yaml").write_text(text("a", address))
    (folder / "one" / "b.yaml").write_text(text("b", "10.0.0.1"))
    (folder / "now").symlink_to("one")
    async with following(folder / "now") as follower:
        assert follower.hosts() == ["a", "b"]
        (folder / "next").symlink_to("two")
        (folder / "next").rename(folder / "now")
        await eventually(lambda: follower.addresses("a") == ["10.0.0.2"])
        await eventually(lambda: follower.hosts() == ["a"])

        replace(folder / "two" / "a.yaml", text("a", "10.0.0.3"))
        await eventually(lambda: follower.addresses("a") == ["10.0.0.3"])


async def test_a_folder_that_is_made_anew_at_once_is_followed(folder: Path, tmp_path: Path) -> None:
    """It may have the inode of the one before, whose watch tells nothing of it."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    async with following(folder) as follower:
        make_anew(folder, tmp_path / "old")
        (folder / "a.yaml").write_text(text("a", "10.0.0.2"))
        await eventually(lambda: follower.addresses("a") == ["10.0.0.2"])
        replace(folder / "a.yaml", text("a", "10.0.0.3"))
        await eventually(lambda: follower.addresses("a") == ["10.0.0.3"])


async def test_a_single_file_is_followed(tmp_path: Path) -> None:
    """Also when it is replaced, which gives it another inode."""
    path = tmp_path / "services.yaml"
    path.write_text(text("a", "10.0.0.1"))
    (tmp_path / "other.yaml").write_text(text("other", "10.0.0.1"))
    async with following(path) as follower:
        assert follower.hosts() == ["a"]
        replace(path, text("a", "10.0.0.2"))
        await eventually(lambda: follower.addresses("a") == ["10.0.0.2"])
        path.write_text(text("a", "10.0.0.3"))
        await eventually(lambda: follower.addresses("a") == ["10.0.0.3"])


async def test_without_recursion_folders_below_are_left_alone(folder: Path) -> None:
    """Whoever asks for it keeps other things there."""
    (folder / "below").mkdir()
    (folder / "below" / "a.yaml").write_text(text("a", "10.0.0.1"))
    async with following(folder, recursive=False) as follower:
        (folder / "below" / "b.yaml").write_text(text("b", "10.0.0.1"))
        (folder / "c.yaml").write_text(text("c", "10.0.0.1"))
        await eventually(lambda: follower.hosts() == ["c"])


async def test_lost_events_are_made_up_for(folder: Path) -> None:
    """Queues overflow, network file systems tell nothing: in the end the state is right."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    (folder / "b.yaml").write_text(text("b", "10.0.0.1"))
    async with following(folder, rescan=0.1, events=told_nothing) as follower:
        (folder / "a.yaml").write_text(text("a", "10.0.0.2"))  # As long as before.
        (folder / "b.yaml").unlink()
        (folder / "c.yaml").write_text(text("c", "10.0.0.1"))
        await eventually(lambda: follower.hosts() == ["a", "c"])
        await eventually(lambda: follower.addresses("a") == ["10.0.0.2"])


async def test_without_a_watch_the_folder_is_looked_at_often(folder: Path) -> None:
    """The system's limit of watches is low, and many programs share it."""

    async with following(folder, rescan=3600, events=refused) as follower:
        (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
        await eventually(lambda: follower.hosts() == ["a"])


async def test_a_write_in_place_never_shows_half(folder: Path) -> None:
    """Between cutting a file and writing it there is a moment of nothing."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    async with following(folder) as follower:
        follower.changes.clear()
        for number in range(2, 30):
            descriptor = os.open(folder / "a.yaml", os.O_WRONLY | os.O_TRUNC)
            await asyncio.sleep(0.005)
            os.write(descriptor, text("a", f"10.0.0.{number}").encode())
            os.close(descriptor)
        await eventually(lambda: follower.addresses("a") == ["10.0.0.29"])

        assert ServiceChanged(ServiceKey("shop", "a.shop.mesh")) not in follower.changes


async def test_a_thousand_files_are_read_without_holding_the_loop(folder: Path) -> None:
    """Proxies that are connected must not notice a registry that starts."""
    for number in range(1000):
        (folder / f"s{number}.yaml").write_text(text(f"s{number}", "10.0.0.1"))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counter = asyncio.create_task(count())
    async with following(folder) as follower:
        counter.cancel()
        assert len(follower.hosts()) == 1000
        # Every part that was read gave the loop back.
        assert turns > 10


async def test_a_name_that_is_no_text_stops_nothing(folder: Path) -> None:
    """The watcher breaks over it; the files beside it are followed all the same."""
    (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
    async with following(folder, rescan=3600) as follower:
        (folder / os.fsdecode(b"b\xff.yaml")).write_text(text("b", "10.0.0.2"))
        await eventually(lambda: len(follower.problems()) == 1)
        replace(folder / "a.yaml", text("a", "10.0.0.3"))
        await eventually(lambda: follower.addresses("a") == ["10.0.0.3"])

        assert follower.hosts() == ["a"]
        assert "expected a name in UTF-8" in follower.problems()[0]


async def test_a_watcher_that_gave_up_is_tried_again(folder: Path) -> None:
    """Looking now and then is for the time until the system has watches again."""
    tries = 0

    async def refused_once(
        *arguments: Any, **options: Any
    ) -> AsyncGenerator[set[tuple[Events, str]], None]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(28, "OS file watch limit reached")
        async for batch in awatch(*arguments, **options):
            yield batch

    async with following(folder, rescan=3600, events=refused_once) as follower:
        await eventually(lambda: tries == 2)
        (folder / "a.yaml").write_text(text("a", "10.0.0.1"))
        await eventually(lambda: follower.hosts() == ["a"])
