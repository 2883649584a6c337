"""Follows the secrets of another registry, and announces the clusters that they lead to."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from adapters.remote_clusters.decode import Announcer
from adapters.remote_clusters.settings import SecretsSource
from aggregator.model.errors import Problem, Severity
from aggregator.model.registry import Content, RegistryContext, RegistrySink, ShardKey
from aggregator.model.secret import Secret

PATIENCE: Final = 15.0
"""How long after its start it is said that no secrets were told of yet."""


class SecretsFollower:
    """Keeps what is announced in line with the secrets of one namespace of one registry.

    Each secret is a scope. A key that is broken keeps what it said last, as a file does.
    """

    def __init__(
        self,
        context: RegistryContext,
        source: SecretsSource,
        announcer: Announcer,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self._context: Final = context
        self._source: Final = source
        self._announcer: Final = announcer
        self._patience: Final = patience

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* until cancelled; what is known already is fed before anything is awaited."""
        news = _News()
        sink.follow_secrets(self._source.registry, news.put)
        run = _Run(self._context.name, self._source.namespace, self._announcer, sink)
        if not news.present:
            try:
                async with asyncio.timeout(self._patience):
                    await news.wait()
            except TimeoutError:
                sink.report("", (self._unheard(),))
                await news.wait()
                sink.report("", ())
        while True:
            run.take(*news.take())
            await news.wait()

    def _unheard(self) -> Problem:
        message = (
            f"the registry {self._source.registry!r} has told of no secrets yet: it has to be of "
            "type kubernetes, with `secrets_namespace`, and in sync"
        )
        return Problem(self._context.origin, "secrets", message, Severity.WARNING)


class _News:
    """What was told since it was last taken."""

    def __init__(self) -> None:
        self._secrets: Mapping[str, Secret] = {}
        self._deleted: set[str] = set()
        self._event: Final = asyncio.Event()

    @property
    def present(self) -> bool:
        return self._event.is_set()

    def put(self, secrets: Mapping[str, Secret], deleted: Collection[str]) -> None:
        self._secrets = secrets
        self._deleted |= set(deleted)
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    def take(self) -> tuple[Mapping[str, Secret], set[str]]:
        self._event.clear()
        deleted, self._deleted = self._deleted, set()
        return self._secrets, deleted - self._secrets.keys()


class _Run:
    """What one run has announced."""

    def __init__(
        self, registry: str, namespace: str, announcer: Announcer, sink: RegistrySink
    ) -> None:
        self._registry: Final = registry
        self._namespace: Final = namespace
        self._announcer: Final = announcer
        self._sink: Final = sink
        self._known: dict[str, Secret] = {}
        self._announced: dict[str, set[str]] = {}
        self._synced = False

    def take(self, secrets: Mapping[str, Secret], deleted: Collection[str]) -> None:
        """Bring what is announced in line with a full listing; *deleted* was so explicitly."""
        present = {
            secret.name: secret
            for secret in secrets.values()
            if secret.namespace == self._namespace
        }
        for key in deleted:
            namespace, _, name = key.partition("/")
            if namespace == self._namespace and name in self._known:
                self._forget(name)
                self._sink.drop(self._shard(name))
                self._sink.report(name, ())
        for name, secret in present.items():
            if self._known.get(name) != secret:
                self._known[name] = secret
                self._announce(name, secret)
        absent = self._known.keys() - present.keys()
        for name in absent:
            self._forget(name)
        if not self._synced:
            self._synced = True
            self._sink.synced()
        elif absent:
            self._sink.retain(self._known.keys())

    def _announce(self, name: str, secret: Secret) -> None:
        found = self._announcer.decode_secret(secret)
        usable = {key: each.registry for key, each in found.items() if each.registry is not None}
        problems = [problem for each in found.values() for problem in each.problems]
        shard = self._shard(name)
        if problems:
            # What is broken now may have been announced by an earlier run: it stays.
            for key in self._announced.get(name, set()) - found.keys():
                self._sink.update(shard, key, None)
            for key, registry in usable.items():
                self._sink.update(shard, key, registry)
        else:
            # A key that somebody took out of a secret was deleted.
            self._sink.replace(shard, usable, explicit=self._synced)
        self._announced[name] = set(found)
        self._sink.report(name, problems)

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        self._announced.pop(name, None)

    def _shard(self, name: str) -> ShardKey:
        return ShardKey(self._registry, name, Content.REGISTRIES)
