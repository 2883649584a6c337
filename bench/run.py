"""Runs one case: starts processes, makes changes, then has the floor send the same bytes."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Final

import yaml
from msgspec import Struct
from msgspec.structs import replace

from bench.apiserver import ApiServer
from bench.child import BenchError, Child, Usage
from bench.client import (
    Arrivals,
    Begin,
    Begun,
    Connect,
    Disconnect,
    Recording,
    Settle,
    TakeRecording,
    run_client,
)
from bench.figure import MEGA, Case, Row, Side
from bench.floor import Messages, Send, Sent, Serving, StartFloor, run_floor
from bench.mesh import Change, Mesh, mark_of
from bench.start import PODS_PER_SERVICE, measure_start
from bench.subject import (
    Made,
    Make,
    StartSubject,
    TakeUnits,
    TakeYields,
    Units,
    Yields,
    run_subject,
)

IN_FILES: Final = (Change.RENAME, Change.IN_PLACE)
IN_CLUSTER: Final = (Change.SLICE, Change.START)
WARM_UP: Final = 3
"""Rounds that are not counted: the first of a kind imports, compiles and allocates."""

QUIET: Final = 0.12
"""A round is over when nothing came for so long, in seconds; connecting, for five times that."""


class Limits(Struct, frozen=True):
    """How long the parts of a case may take, and how many processes share the load."""

    clients: int = 1
    start_seconds: float = 120.0
    connect_seconds: float = 120.0
    round_seconds: float = 20.0


class _Round(Struct, frozen=True):
    """When a round began and what came of it; `written` is when its file was, if there is one."""

    began: int
    arrivals: Arrivals
    written: int = 0

    @property
    def milliseconds(self) -> float:
        return (max(self.arrivals.last) - self.began) / MEGA

    @property
    def milliseconds_since_write(self) -> float:
        return (max(self.arrivals.last) - self.written) / MEGA


class Clients:
    """The load, spread over processes that are told the same things."""

    def __init__(self, children: Sequence[Child], limits: Limits) -> None:
        self._children: Final = children
        self._limits: Final = limits

    def connect(self, address: str, proxies: int, mesh: Mesh, *, delta: bool) -> int:
        """Begin to connect; returns when that was."""
        share, more = divmod(proxies, len(self._children))
        first = 0
        for position, child in enumerate(self._children):
            count = share + (position < more)
            child.tell(Connect(address, first, count, mesh.namespaces, delta, record=position == 0))
            first += count
        return min(child.answer(Begun).at for child in self._children)

    def teach(self, address: str, mesh: Mesh, *, delta: bool) -> int:
        """Have every process see what a proxy of each class gets; returns the bytes of one."""
        count = mesh.namespaces
        for child in self._children:
            child.ask(Connect(address, 0, count, count, delta, record=True), Begun)
        self.settle(connecting=True)
        bytes_each = min(
            child.ask(TakeRecording(), Recording).bytes_each for child in self._children
        )
        self.disconnect()
        return bytes_each

    def settle(self, *, connecting: bool, bytes_each: int = 0) -> Arrivals:
        """Wait until all came. Raises BenchError if it did not."""
        limits = self._limits
        seconds = limits.connect_seconds if connecting else limits.round_seconds
        for child in self._children:
            child.tell(Settle(5 * QUIET if connecting else QUIET, seconds, bytes_each))
        parts = [child.answer(Arrivals, seconds + 30) for child in self._children]
        missing = sum(part.missing for part in parts)
        if missing:
            message = f"{missing} streams did not get all within {seconds:g} s"
            raise BenchError(message)
        return Arrivals(
            tuple(each for part in parts for each in part.last),
            sum(part.messages for part in parts),
            sum(part.bytes for part in parts),
            missing,
        )

    def begin(self, mark: str) -> None:
        """Count from zero."""
        for child in self._children:
            child.ask(Begin(mark), Begun)

    def recording(self) -> Messages:
        """What a proxy of each class got since the beginning."""
        return self._children[0].ask(TakeRecording(), Recording).messages

    def disconnect(self) -> None:
        """End all streams."""
        for child in self._children:
            child.ask(Disconnect(), Begun)


class Runner:
    """Runs cases one after the other; files and logs go below *folder*."""

    def __init__(self, folder: Path, limits: Limits, say: Callable[[str], None]) -> None:
        self._folder: Final = folder
        self._limits: Final = limits
        self._say: Final = say
        self._log: Final = folder / "log"
        self._ids: Final = count()

    def run(self, case: Case) -> Row:
        """Measure a case and its floor. Raises BenchError if it cannot be measured."""
        mesh = case.mesh
        self._say(case.title)
        self._log.unlink(missing_ok=True)
        with ExitStack() as stack:
            children = [
                stack.enter_context(Child(run_client, self._log))
                for _ in range(self._limits.clients)
            ]
            clients = Clients(children, self._limits)
            if case.change is Change.CONNECT:
                return self._run_connect(case, mesh, clients)
            if case.change in IN_CLUSTER:
                api = stack.enter_context(ApiServer(self._folder / f"cluster-{next(self._ids)}"))
                return self._run_cluster(case, mesh, clients, api)
            return self._run_change(case, mesh, clients)

    # Everybody connects

    def _run_connect(self, case: Case, mesh: Mesh, clients: Clients) -> Row:
        """A fresh server for each round, because only the first storm finds it with nothing built.

        The clients know beforehand what an Envoy says to each response, from another server with
        the same content.
        """
        with Child(run_subject, self._log) as subject:
            bytes_each = clients.teach(self._serve(subject, mesh), mesh, delta=case.delta)
        # Streams get the same resources, but cut into messages as it happens.
        bytes_each = int(bytes_each * 0.98)
        server, got = self._storms(case, mesh, clients, bytes_each, None)
        floor, _ = self._storms(case, mesh, clients, bytes_each, got)
        return Row(case, server, floor)

    def _storms(
        self, case: Case, mesh: Mesh, clients: Clients, bytes_each: int, messages: Messages | None
    ) -> tuple[Side, Messages]:
        """The rounds of one side: of the control plane, or of the floor that sends *messages*."""
        got: Messages = {}
        rounds, before, after = [], [], []
        units = 0
        for _ in range(case.rounds):
            with Child(run_subject if messages is None else run_floor, self._log) as child:
                if messages is None:
                    address = self._serve(child, mesh)
                else:
                    address = child.ask(StartFloor(messages, {}), Serving).address
                before.append(child.usage())
                began = clients.connect(address, case.proxies, mesh, delta=case.delta)
                arrivals = clients.settle(connecting=True, bytes_each=bytes_each)
                after.append(child.usage())
                if messages is None:
                    units += child.ask(TakeUnits(), Units).built
                rounds.append(_Round(began, arrivals))
                got = clients.recording()
                clients.disconnect()
        return replace(_side(rounds, before, after), units=units / case.rounds), got

    # Something changes

    def _run_cluster(self, case: Case, mesh: Mesh, clients: Clients, api: ApiServer) -> Row:
        if case.change is Change.START:
            api.fill(mesh, pods=int(mesh.services * PODS_PER_SERVICE))
            return measure_start(case, api, self._folder)
        api.fill(mesh)
        return self._run_change(case, mesh, clients, api)

    def _run_change(
        self, case: Case, mesh: Mesh, clients: Clients, api: ApiServer | None = None
    ) -> Row:
        folder = self._folder / "mesh"
        if case.change in IN_FILES:
            write_folder(folder, mesh)
        with Child(run_subject, self._log) as subject:
            address = self._serve(subject, mesh, folder if case.change in IN_FILES else None, api)
            clients.connect(address, case.proxies, mesh, delta=case.delta)
            clients.settle(connecting=True)
            at_once = clients.recording()

            def make(number: int) -> tuple[int, int]:
                mark = mark_of(case.change, number)
                if case.change in IN_FILES:
                    written = write_change(folder, mesh, case.change, mark)
                    return written, written
                if api is not None:
                    return api.write(mesh, mark), 0
                return subject.ask(Make(case.change, mark), Made).at, 0

            def settled(done: _Round) -> _Round:
                return _from_yield(done, subject.ask(TakeYields(), Yields), file_of(mesh, 0))

            built = subject.ask(TakeUnits(), Units).built
            rounds, before, after = self._rounds(
                case, clients, subject, make, settled if case.change in IN_FILES else None
            )
            built = subject.ask(TakeUnits(), Units).built - built
            later = clients.recording()
            clients.disconnect()
        since_write = tuple(each.milliseconds_since_write for each in rounds if each.written)
        units = built / (WARM_UP + case.rounds)
        server = replace(_side(rounds, [before], [after]), units=units)
        mark = mark_of(case.change, WARM_UP + case.rounds - 1)
        with Child(run_floor, self._log) as floor:
            address = floor.ask(StartFloor(at_once, later), Serving).address
            clients.connect(address, case.proxies, mesh, delta=case.delta)
            clients.settle(connecting=True)

            def send(_: int) -> tuple[int, int]:
                return floor.ask(Send(), Sent).at, 0

            rounds, before, after = self._rounds(case, clients, floor, send, None, mark)
        return Row(case, server, _side(rounds, [before], [after]), since_write)

    def _rounds(
        self,
        case: Case,
        clients: Clients,
        child: Child,
        make: Callable[[int], tuple[int, int]],
        settled: Callable[[_Round], _Round] | None,
        mark: str = "",
    ) -> tuple[list[_Round], Usage, Usage]:
        """Make changes until enough rounds are measured."""
        rounds = []
        before = child.usage()
        for number in range(WARM_UP + case.rounds):
            if number == WARM_UP:
                before = child.usage()
            clients.begin(mark or mark_of(case.change, number))
            began, written = make(number)
            done = _Round(began, clients.settle(connecting=False), written)
            if settled is not None:
                done = settled(done)
            if number >= WARM_UP:
                rounds.append(done)
        return rounds, before, child.usage()

    def _serve(
        self,
        subject: Child,
        mesh: Mesh,
        folder: Path | None = None,
        api: ApiServer | None = None,
    ) -> str:
        kubeconfig = api and api.kube.write_kubeconfig(self._folder / "kubeconfig.yaml")
        start = StartSubject(mesh, str(folder or ""), str(kubeconfig or ""))
        return subject.ask(start, Serving, self._limits.start_seconds).address


def _side(rounds: Sequence[_Round], before: Sequence[Usage], after: Sequence[Usage]) -> Side:
    count = len(rounds)
    return Side(
        tuple(each.milliseconds for each in rounds),
        (sum(each.cpu_seconds for each in after) - sum(each.cpu_seconds for each in before))
        / count,
        sum(each.arrivals.bytes for each in rounds) / count / MEGA,
        sum(each.arrivals.messages for each in rounds) / count,
        max(each.peak_mb for each in after),
        max(each.rss_mb for each in after),
    )


def _from_yield(done: _Round, yields: Yields, file: str) -> _Round:
    """The round counted from when the watcher first told of the file after it was written."""
    for at, paths in yields.events:
        if at >= done.written and file in paths:
            return _Round(at, done.arrivals, done.written)
    message = f"the watcher did not tell of {file}"
    raise BenchError(message)


# Files


def file_of(mesh: Mesh, number: int) -> str:
    """The file of one service."""
    return f"{mesh.host(number)}.yaml"


def write_folder(folder: Path, mesh: Mesh) -> None:
    """A folder with a file for each service."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number in range(mesh.services):
        (folder / file_of(mesh, number)).write_text(_document(mesh, number))


def write_change(folder: Path, mesh: Mesh, change: Change, address: str) -> int:
    """Put an endpoint elsewhere; returns when the file began to be another one."""
    text = _document(mesh, 0, address)
    path = folder / file_of(mesh, 0)
    if change is Change.IN_PLACE:
        written = time.monotonic_ns()
        path.write_text(text)
        return written
    aside = folder / f".{path.name}"
    aside.write_text(text)
    written = time.monotonic_ns()
    aside.replace(path)
    return written


def _document(mesh: Mesh, number: int, first_address: str = "") -> str:
    item = mesh.item(number, first_address)
    service = item.service
    ports = service.ports if service else ()
    document = {
        "host": item.host,
        "namespace": item.namespace,
        "addresses": list(service.addresses) if service else [],
        "ports": [
            {"name": port.name, "number": port.number, "protocol": port.protocol.value}
            for port in ports
        ],
        "endpoints": [
            {"address": each.address, "locality": str(each.locality)} for each in item.endpoints
        ],
    }
    return yaml.safe_dump({"services": [document]}, sort_keys=False)
