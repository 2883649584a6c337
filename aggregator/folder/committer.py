"""Feeds the mesh with what files say, each as a whole, and remembers what was fed."""

from collections.abc import Collection, Iterable, Mapping

from aggregator.folder.reader import UNREADABLE, Remembered, Result
from aggregator.model.errors import Problem
from aggregator.model.registry import Content, Item, RegistrySink, ShardKey


class Committer:
    """What one run of the adapter has told, over all folders that its path led to meanwhile."""

    def __init__(self, sink: RegistrySink, registry: str) -> None:
        self._sink = sink
        self._registry = registry
        self._given: dict[str, set[Content]] = {}
        self._faults: set[str] = set()
        self._synced = False
        self.memory: dict[str, Remembered] = {}

    def commit(self, results: Iterable[Result]) -> None:
        """Commit what was read, in one step; files that are gone first, because they may be the
        old names of others.
        """
        for result in sorted(results, key=lambda each: (not each.gone, each.scope)):
            if result.gone:
                self._drop(result.scope)
            elif result.remembered is not None:
                self._commit_one(result, result.remembered)

    def _commit_one(self, result: Result, remembered: Remembered) -> None:
        scope = result.scope
        self.memory[scope] = remembered
        if result.unchanged:
            return
        if result.content is not None:
            self._give(scope, result.content.items)
        self._sink.report(scope, result.problems)

    def _give(self, scope: str, items: Mapping[Content, Mapping[str, Item]]) -> None:
        """Replace the file's shards: the first kind even if it is empty, so that the file is known,
        and others where there is or was something.
        """
        given = self._given.setdefault(scope, set())
        for content, listing in items.items():
            if listing or content in given or not given:
                given.add(content)
                self._sink.replace(
                    ShardKey(self._registry, scope, content), listing, explicit=self._synced
                )

    def _drop(self, scope: str) -> None:
        if self.memory.pop(scope, None) is None:
            return
        for content in self._given.pop(scope, ()):
            self._sink.drop(ShardKey(self._registry, scope, content))
        self._sink.report(scope, ())

    def faults(self, faults: Mapping[str, Problem]) -> None:
        """Report what could not be looked at in the folder, in place of what could not before."""
        for scope in self._faults - faults.keys() - self.memory.keys():
            self._sink.report(scope, ())
        for scope, problem in faults.items():
            self._sink.report(scope, (problem,))
            if scope in self.memory:
                # Once it can be read again, it must be, even if nothing else has changed.
                self.memory[scope] = UNREADABLE
        self._faults = set(faults)

    def synced(self, files: Collection[str]) -> None:
        """Everything of a folder was read: what it lacks is absent."""
        if self._synced:
            # The path leads to another folder than before.
            self._sink.retain({*files, *self._faults})
            for scope in self.memory.keys() - set(files):
                self._forget(scope)
        else:
            self._sink.synced()
        self._synced = True

    def emptied(self) -> None:
        """The folder has no file any more."""
        self._sink.retain(())
        for scope in list(self.memory):
            self._forget(scope)

    def _forget(self, scope: str) -> None:
        self.memory.pop(scope, None)
        self._given.pop(scope, None)
