"""What is known of the services of one scope, and which of them get the hosts that they claim.

Synchronous, without I/O: takes answers, and tells what is to be said of which service.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from msgspec import Struct

from adapters.consul.answer import read_instances
from adapters.consul.client import Answer
from adapters.consul.decode import Decoded, Decoder
from aggregator.model.errors import Origin, Problem, Severity
from aggregator.model.registry import Item
from config.naming import NamedService, assign_hosts

T = TypeVar("T")

_MOST_TOLD: Final = 100


class _Known(Struct):
    """One service: what it was decoded to, and what is said of it."""

    digest: bytes = b""
    index: int = 0
    decoded: Decoded = Decoded()
    item: Item | None = None


class KnownServices:
    """The services of one scope by name."""

    def __init__(self, decoder: Decoder, origin: Origin) -> None:
        self._decoder = decoder
        self._origin = origin
        self._services: dict[str, _Known] = {}
        self._claims: dict[str, dict[str, int]] = {}
        self._told: tuple[Problem, ...] = ()
        self._refused: Mapping[str, str] = {}
        self._partial = False
        self._wrong: dict[str, tuple[Problem, ...]] = {}
        self._dropped: dict[str, str] = {}

    def refuse(self, names: Mapping[str, str], *, partial: bool) -> None:
        """These are listed, but cannot be services, for the reason that goes with each.

        *partial* says that the token may not see all that there is.
        """
        self._refused = names
        self._partial = partial

    def index(self, name: str) -> int:
        """What to wait from for news of a service; 0 if nothing is known."""
        known = self._services.get(name)
        return known.index if known else 0

    def items(self) -> Mapping[str, Item]:
        """All that is served."""
        return {name: known.item for name, known in self._services.items() if known.item}

    def take(self, name: str, answer: Answer) -> dict[str, Item | None]:
        """Take in the answer about one service; what is to be said differently, by name.

        Raises AdapterUnavailableError if it cannot be read at all.
        """
        known = self._services.setdefault(name, _Known())
        known.index = answer.index
        digest = answer.shown
        if digest == known.digest:
            return {}
        instances, faulty = read_instances(answer.body)
        if answer.filtered and not instances:
            # Not empty, but hidden.
            self._wrong[name] = (self._problem(_HIDDEN, name),)
            known.digest = b""
            return {}
        known.digest = digest
        old_host = _host_of(known.decoded)
        before = known.decoded.item
        # What is written in a definition stays while there is nobody to take it from.
        service = before.service if before is not None else None
        known.decoded = self._decoder.decode(name, instances, faulty, service)
        host = _host_of(known.decoded)
        if old_host and old_host != host:
            self._unclaim(old_host, name)
        if host:
            self._claims.setdefault(host, {})[name] = known.decoded.created
        return self._settle(name, *(each for each in (old_host, host) if each))

    def forget(self, names: Iterable[str]) -> None:
        """These are not listed any more. Their hosts go to whoever else claims them."""
        hosts = []
        for name in names:
            known = self._services.pop(name, None)
            host = _host_of(known.decoded) if known else ""
            self._wrong.pop(name, None)
            self._dropped.pop(name, None)
            if host:
                self._unclaim(host, name)
                hosts.append(host)
        self._settle("", *hosts)

    def problems(self) -> tuple[Problem, ...] | None:
        """What is wrong, some of it if it is much; None if that is what was told last."""
        found = [self._problem(self._refused[name], name) for name in sorted(self._refused)]
        for name in sorted(self._wrong):
            found += self._wrong[name]
        if len(found) > _MOST_TOLD:
            message = f"more is wrong; only the first {_MOST_TOLD} problems are told"
            found[_MOST_TOLD:] = [Problem(self._origin, "", message)]
        if self._partial:
            found.append(Problem(self._origin, "", _PARTIAL, Severity.WARNING))
        if self._dropped:
            name = min(self._dropped)
            example = f"{self._dropped[name]!r} of service {name[:80]!r}"
            message = f"tags and meta that can be no label are left out, such as {example}"
            found.append(Problem(self._origin, "", message, Severity.WARNING))
        told = tuple(found)
        if told == self._told:
            return None
        self._told = told
        return told

    def _settle(self, name: str, *hosts: str) -> dict[str, Item | None]:
        """Find out who gets which host; what is to be said differently."""
        names = {name} if name in self._services else set()
        clashes: dict[str, str] = {}
        for host in hosts:
            claims = self._claims.get(host, {})
            names |= claims.keys()
            if len(claims) > 1:
                claimants = [NamedService(each, host, created) for each, created in claims.items()]
                clashes |= {each.name: str(each) for each in assign_hosts(claimants)[1]}
        said: dict[str, Item | None] = {}
        for each in sorted(names):
            known = self._services[each]
            item: Item | None = known.decoded.item
            problems = known.decoded.problems
            if each in clashes:
                item = None
                problems = (self._problem(clashes[each], each), *problems)
            _put(self._wrong, each, problems)
            _put(self._dropped, each, known.decoded.dropped)
            if item != known.item:
                known.item = said[each] = item
        return said

    def _unclaim(self, host: str, name: str) -> None:
        claims = self._claims[host]
        claims.pop(name, None)
        if not claims:
            del self._claims[host]

    def _problem(self, message: str, name: str) -> Problem:
        return Problem(self._origin, "", message, subject=f"service {name[:80]}")


_PARTIAL: Final = "the token may not read all services and nodes; what it may not see is not there"
_HIDDEN: Final = "the token may not read the nodes of its instances; what was known of it stays"


def _put(kept: dict[str, T], name: str, value: T) -> None:
    """Keep what is not empty."""
    if value:
        kept[name] = value
    else:
        kept.pop(name, None)


def _host_of(decoded: Decoded) -> str:
    return decoded.item.host if decoded.item is not None else ""
