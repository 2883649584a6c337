"""One Kubernetes cluster as a registry: its services, workloads, places, rules and secrets."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from adapters.kubernetes.client import KubernetesClient
from adapters.kubernetes.follower import Follower
from adapters.kubernetes.kubeconfig import Access, decode_kubeconfig, in_cluster
from adapters.kubernetes.reflector import USUAL, Pace
from adapters.kubernetes.settings import KubernetesSettings
from aggregator.model.errors import ConfigError, Origin, Problem
from aggregator.model.registry import Adapter, AdapterSpec, RegistryContext, RegistrySink


class KubernetesAdapter:
    """Feeds the mesh from one API server."""

    def __init__(
        self,
        context: RegistryContext,
        settings: KubernetesSettings,
        *,
        environment: Mapping[str, str] | None = None,
        pace: Pace = USUAL,
    ) -> None:
        self._context: Final = context
        self._settings: Final = settings
        self._environment: Final = os.environ if environment is None else environment
        self._pace: Final = pace

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* until cancelled.

        Raises AdapterUnavailableError if the server does not answer, AdapterRejectedError if it
        does not know us or lets us read nothing, or if the kubeconfig cannot be used.
        """
        settings = self._settings
        async with (
            KubernetesClient(self._load, rate=settings.requests_per_second) as client,
            asyncio.TaskGroup() as group,
        ):
            await Follower(self._context, settings, client, group, sink, self._pace).run()

    def _load(self) -> Access:
        """Read how the server is reached; raises ConfigError."""
        context, settings = self._context, self._settings
        text, base = context.credential.reveal(), Path(context.base_dir)
        source = context.origin.source or context.name
        if not text and not settings.kubeconfig:
            return in_cluster(self._environment, context.origin)
        if not text:
            path = base / settings.kubeconfig
            try:
                text = path.read_bytes()
            except OSError as error:
                message = f"cannot be read: {error.strerror or error}"
                raise ConfigError(Problem(Origin(str(path)), "", message)) from error
            base, source = path.parent, str(path)
        return decode_kubeconfig(
            text, source, base, context=settings.context, allow_exec=settings.allow_exec
        )


def create(context: RegistryContext, settings: KubernetesSettings) -> Adapter:
    """Make the adapter of one cluster."""
    return KubernetesAdapter(context, settings)


ADAPTER: Final = AdapterSpec(
    "kubernetes", KubernetesSettings, create, is_cluster=True, longest_wait=30.0
)
