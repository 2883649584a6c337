"""Kubernetes clusters that come and go: found by kubeconfigs in a folder and in secrets.

Each is announced as a registry of its own, which the supervisor starts, swaps and ends. Knows
nothing of how a cluster is read.
"""

import asyncio
from pathlib import Path
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from adapters.remote_clusters.decode import Announcer
from adapters.remote_clusters.follower import PATIENCE, SecretsFollower
from adapters.remote_clusters.part import Part
from adapters.remote_clusters.settings import (
    RemoteClustersSettings,
    announced_sections,
    validate_settings,
)
from aggregator.folder.follower import FolderFollower
from aggregator.model.registry import Adapter, AdapterSpec, RegistryContext, RegistrySink

FILES: Final = "kubeconfigs/"
SECRETS: Final = "secrets/"


class RemoteClustersAdapter:
    """Announces what its folder and its secrets lead to."""

    def __init__(
        self,
        context: RegistryContext,
        settings: RemoteClustersSettings,
        *,
        patience: float = PATIENCE,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        bare: FilteringBoundLogger = log or structlog.get_logger(__name__)
        announcer = Announcer(context, settings)
        # Secrets come first: what is known of them is told even if the folder is not there.
        self._sources: dict[str, SecretsFollower | FolderFollower] = {}
        if settings.secrets is not None:
            self._sources[SECRETS] = SecretsFollower(
                context, settings.secrets, announcer, patience=patience
            )
        if settings.kubeconfigs:
            self._sources[FILES] = FolderFollower(
                Path(context.base_dir) / settings.kubeconfigs,
                ("*.yaml",),
                context.name,
                announcer.decode_file,
                last_may_go=True,
                log=bare.bind(adapter=context.name),
            )

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* until cancelled.

        Raises AdapterUnavailableError when the folder is not there or cannot be read.
        """
        waiting = set(self._sources)
        async with asyncio.TaskGroup() as group:
            for prefix, source in self._sources.items():
                part = Part(sink, prefix, self._sources.keys() - {prefix}, waiting)
                group.create_task(source.run(part))


def create(context: RegistryContext, settings: RemoteClustersSettings) -> Adapter:
    """Make the adapter."""
    return RemoteClustersAdapter(context, settings)


ADAPTER: Final = AdapterSpec(
    "remote_clusters",
    RemoteClustersSettings,
    create,
    longest_wait=2.0,
    gives_rules=False,
    validate=validate_settings,
    announced=announced_sections,
)
