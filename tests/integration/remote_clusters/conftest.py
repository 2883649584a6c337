"""Real clusters for these tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count
from typing import Final

import pytest

from tests.integration.remote_clusters.cluster import RemoteCluster
from tests.support.servers.kube_apiserver import KubeApiserver

_NAMESPACES: Final = count(1)


class Clusters:
    """Opens real clusters for one test, in a namespace that all of them have."""

    def __init__(self, stack: AsyncExitStack, find: Callable[[str], KubeApiserver]) -> None:
        self.namespace: Final = f"remote-{next(_NAMESPACES)}"
        self._stack: Final = stack
        self._find: Final = find

    async def open(self, server: str | KubeApiserver) -> RemoteCluster:
        """A cluster on the shared API server of that name, or on one of the test's own."""
        if isinstance(server, str):
            # In this thread: a server that a thread has started ends with the thread.
            server = self._find(server)
        client = await self._stack.enter_async_context(server.client())
        cluster = RemoteCluster(server, client, self.namespace)
        await cluster.open()
        return cluster


@pytest.fixture
async def clusters(kube_cluster: Callable[[str], KubeApiserver]) -> AsyncIterator[Clusters]:
    """For one test."""
    async with AsyncExitStack() as stack:
        yield Clusters(stack, kube_cluster)
