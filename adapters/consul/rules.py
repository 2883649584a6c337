"""Rules from keys of Consul's KV store: a pure decoder, and what follows the keys below a prefix.

Each key commits as a whole: one that says nonsense keeps its own last good state.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from msgspec import Struct

from adapters.consul.answer import Pair, read_answer
from adapters.consul.client import Answer, ConsulClient, Params
from adapters.consul.pace import Cursor, Pace, Step
from adapters.consul.settings import ConsulSettings
from aggregator.model.errors import (
    AdapterRejectedError,
    ConfigError,
    Origin,
    Problem,
)
from aggregator.model.registry import Content, Item, RegistryContext, RegistrySink, ShardKey
from config.documents import read_documents
from config.items import decode_items

SCOPE: Final = "kv/"

_RATE: Final = 5.0
_BURST: Final = 5.0


class KeyContent(Struct, frozen=True):
    """What one key gives; if it is `broken`, nothing, and `problems` say why."""

    rules: Mapping[str, Item]
    problems: tuple[Problem, ...] = ()
    broken: bool = False


def decode_key(pair: Pair, source: str, context: RegistryContext) -> KeyContent:
    """Decode the documents in a key's value; all errors are found at once."""
    try:
        text = base64.b64decode(pair.value or "", validate=True)
    except binascii.Error as error:
        return KeyContent({}, (Problem(Origin(source), "", f"expected base64: {error}"),), True)
    documents = read_documents(text, source)
    errors = list(documents.problems)
    warnings: list[Problem] = []
    rules: dict[str, Item] = {}
    for document in documents.documents:
        try:
            items = decode_items(document, context)
        except ConfigError as error:
            errors += error.problems
            continue
        if items.services:
            message = "expected a rule: services are read from the catalog only"
            errors.append(Problem(document.origin, "", message))
        warnings += items.warnings
        for rule in items.rules:
            key = str(rule.key)
            if key in rules:
                message = f"{key} is in this key already"
                errors.append(Problem(document.origin, "", message))
            rules[key] = rule
    if errors:
        return KeyContent({}, tuple(errors), broken=True)
    return KeyContent(rules, tuple(warnings))


class RulesFollower:
    """Keeps the shards of all keys below a prefix in line with Consul.

    *retain* is called with the scopes of all keys whenever some are gone.
    """

    def __init__(
        self,
        client: ConsulClient,
        sink: RegistrySink,
        context: RegistryContext,
        settings: ConsulSettings,
        retain: Callable[[Collection[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._sink = sink
        self._context = context
        self._wait = settings.wait
        self._path = f"/v1/kv/{settings.kv_prefix.strip('/')}/"
        told = [("dc", settings.kv_datacenter)] if settings.kv_datacenter else []
        self._params: Params = [*told, ("recurse", "")]
        self._retain = retain
        self._clock = clock
        self._seen: dict[str, int] = {}

    async def follow(self, on_listed: Callable[[], None]) -> None:
        """Read all keys, then their changes; *on_listed* is called after the first.

        Raises AdapterUnavailableError or AdapterRejectedError.
        """
        cursor = Cursor(self._wait)
        pace = Pace(_RATE, _BURST, self._clock)
        listed = False
        shown = b""
        while True:
            asked = self._clock()
            answer = await self._client.get(self._path, self._params, index=cursor.ask)
            step = cursor.take(answer.index, self._clock() - asked)
            if step is Step.BACK:
                # Restored from a backup, where the same index may stand for another value.
                self._seen.clear()
            if answer.shown != shown:
                shown = answer.shown
                await self._take(self._read(answer))
            if not listed:
                listed = True
                on_listed()
            if wait := pace.take():
                await asyncio.sleep(wait)

    def _read(self, answer: Answer) -> list[Pair]:
        pairs = read_answer(answer.body, list[Pair]) if answer.found else []
        if answer.filtered and not pairs:
            message = f"{self._client.agent}{self._path}: the token may not read any key"
            raise AdapterRejectedError(message)
        return pairs

    async def _take(self, pairs: list[Pair]) -> None:
        present = {pair.key for pair in pairs if not pair.key.endswith("/")}
        for pair in pairs:
            if pair.key in present and self._seen.get(pair.key) != pair.modify_index:
                source = f"{self._context.name}/{SCOPE}{pair.key}"
                content = await asyncio.to_thread(decode_key, pair, source, self._context)
                self._seen[pair.key] = pair.modify_index
                self._commit(f"{SCOPE}{pair.key}", content)
        gone = [key for key in self._seen if key not in present]
        if gone:
            for key in gone:
                del self._seen[key]
            self._retain({f"{SCOPE}{key}" for key in present})

    def _commit(self, scope: str, content: KeyContent) -> None:
        if not content.broken:
            shard = ShardKey(self._context.name, scope, Content.RULES)
            # Somebody wrote the key, so what it lacks now was taken out on purpose.
            self._sink.replace(shard, content.rules, explicit=True)
        self._sink.report(scope, content.problems)
