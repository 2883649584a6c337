"""Consul as a registry: services of one or several datacenters, and rules from its KV store.

Each datacenter is read and fails by itself. Consul never says what was deleted: what a listing
lacks is told as absent, and judged by others.
"""

import asyncio
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Final

from msgspec import Struct

from adapters.consul.answer import read_answer
from adapters.consul.board import Board
from adapters.consul.catalog import CatalogFollower
from adapters.consul.client import AT_ONCE, MOST_CONNECTIONS, ConsulClient, connect
from adapters.consul.decode import TEMPLATE_PARTS, Decoder, Scope
from adapters.consul.pace import Slots
from adapters.consul.registration import Registration
from adapters.consul.rules import SCOPE, RulesFollower
from adapters.consul.settings import ALL, ConsulSettings
from adapters.consul.token import Token
from aggregator.model.errors import AdapterError, AdapterRejectedError, ConfigError, Problem
from aggregator.model.registry import (
    Adapter,
    AdapterSpec,
    Content,
    RegistryContext,
    RegistrySink,
    ShardKey,
)
from config.naming import template_fault

LOOK_FOR_DATACENTERS: Final = 15.0
RETOKEN: Final = 5.0

_PER_SCOPE: Final = 2
"""Connections that wait for news of a scope as a whole: its services and its checks."""

_OTHERS: Final = AT_ONCE + 2


class _Self(Struct, rename="pascal"):
    datacenter: str


class _Agent(Struct, rename="pascal"):
    config: _Self


class ConsulAdapter:
    """Feeds the mesh from the datacenters that one agent, or one of several alike, can reach."""

    def __init__(self, context: RegistryContext, settings: ConsulSettings) -> None:
        self._context = context
        self._settings = settings
        self._base_dir = Path(context.base_dir)

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* until cancelled.

        Raises AdapterUnavailableError and AdapterRejectedError once nothing can be read any more.
        """
        settings = self._settings
        token = Token(self._base_dir / settings.token_file if settings.token_file else None)
        async with connect(settings, token, self._base_dir) as client:
            await _Run(self._context, settings, client, token, sink).run()


class _Run:
    """One run: an agent that has answered, and what is read from it."""

    def __init__(
        self,
        context: RegistryContext,
        settings: ConsulSettings,
        client: ConsulClient,
        token: Token,
        sink: RegistrySink,
    ) -> None:
        self._context = context
        self._settings = settings
        self._client = client
        self._token = token
        self._sink = sink
        self._board = Board(sink, context.name)
        self._own = ""
        self._scopes: dict[Scope, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Read everything until cancelled."""
        self._own = await self._own_datacenter()
        scopes = await self._wanted()
        rules = bool(self._settings.kv_prefix) and self._context.rules
        free = MOST_CONNECTIONS - _OTHERS - _PER_SCOPE * len(scopes)
        slots = Slots(max(1, min(self._settings.watches, free)))
        async with asyncio.TaskGroup() as group:
            if rules:
                self._follow_rules(group)
            for scope in scopes:
                self._add(group, scope, slots)
            group.create_task(self._renew_token())
            if ALL in self._settings.datacenters:
                group.create_task(self._follow_datacenters(group, slots))
            if self._settings.register is not None:
                registration = Registration(
                    self._client, self._settings.register, self._board.remark
                )
                group.create_task(registration.run())

    def _follow_rules(self, group: asyncio.TaskGroup) -> None:
        settings = self._settings
        part = self._board.add(SCOPE, f"the KV prefix {settings.kv_prefix!r}")
        follower = RulesFollower(
            self._client,
            self._sink,
            self._context,
            settings,
            lambda scopes: self._board.retain(scopes, instead_of=SCOPE),
        )
        group.create_task(self._board.keep(part, follower.follow))

    def _add(self, group: asyncio.TaskGroup, scope: Scope, slots: Slots) -> None:
        part = self._board.add(str(scope), f"datacenter {scope.datacenter or self._own}")

        async def follow(on_listed: Callable[[], None]) -> None:
            # What was known before an error is no help after it: all is read anew.
            follower = CatalogFollower(
                self._client,
                self._sink,
                ShardKey(self._context.name, str(scope), Content.SERVICES),
                scope,
                self._settings,
                Decoder(self._context, self._settings, scope, self._own),
                slots,
                part.report,
            )
            await follower.follow(on_listed)

        self._scopes[scope] = group.create_task(self._board.keep(part, follow))

    # Datacenters

    async def _own_datacenter(self) -> str:
        """The agent's datacenter."""
        try:
            answer = await self._client.get("/v1/agent/self")
        except AdapterRejectedError:
            # The token need not be allowed to look at agents. Its own datacenter is the nearest.
            return (await self._joined())[0]
        return read_answer(answer.body, _Agent).config.datacenter

    async def _joined(self) -> list[str]:
        answer = await self._client.get("/v1/catalog/datacenters")
        found = read_answer(answer.body, list[str])
        if not found:
            message = f"{self._client.agent}: expected datacenters, found none"
            raise AdapterRejectedError(message)
        return found

    async def _wanted(self) -> list[Scope]:
        """All that is to be read."""
        datacenters = self._settings.datacenters or (self._own,)
        if ALL in datacenters:
            datacenters = tuple(sorted({*datacenters, *await self._joined()} - {ALL}))
        namespaces = self._settings.namespaces or ("",)
        partitions = self._settings.partitions or ("",)
        return [Scope(*each) for each in product(datacenters, namespaces, partitions)]

    async def _follow_datacenters(self, group: asyncio.TaskGroup, slots: Slots) -> None:
        """Follow which datacenters are joined, of which Consul tells no news."""
        while True:
            await asyncio.sleep(LOOK_FOR_DATACENTERS)
            try:
                wanted = await self._wanted()
            except AdapterError:
                continue  # Those that are read tell of this.
            for scope in [scope for scope in self._scopes if scope not in wanted]:
                self._scopes.pop(scope).cancel()
                self._board.remove(str(scope))
            for scope in wanted:
                if scope not in self._scopes:
                    self._add(group, scope, slots)

    async def _renew_token(self) -> None:
        """Read the token's file now and then."""
        while True:
            await asyncio.sleep(RETOKEN)
            try:
                await self._token.read()
            except AdapterRejectedError as error:
                # The one that was read before may still be good.
                problem = Problem(self._context.origin, "token_file", str(error))
                self._board.remark("token", problem)
            else:
                self._board.remark("token", None)


def create(context: RegistryContext, settings: ConsulSettings) -> Adapter:
    """Make the adapter of one Consul.

    Raises ConfigError if hosts cannot be made by the template.
    """
    if context.host_template and (fault := template_fault(context.host_template, TEMPLATE_PARTS)):
        raise ConfigError(Problem(context.origin, "host_template", fault))
    return ConsulAdapter(context, settings)


ADAPTER: Final = AdapterSpec(
    "consul",
    ConsulSettings,
    create,
    extra="consul",
    names_hosts=True,
    longest_wait=15.0,
    tells_deletions=False,
)
