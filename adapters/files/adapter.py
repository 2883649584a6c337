"""A folder of YAML and JSON files as a registry: read at the start, followed while it changes.

Each file commits as a whole and keeps its last good state while it is broken. A deleted file is
deletion; a folder found empty is an absence that is judged; one that cannot be read is an error.
"""

from functools import partial
from pathlib import Path

import structlog
from msgspec import Struct
from structlog.typing import FilteringBoundLogger
from watchfiles import awatch

from adapters.files.decode import decode_file
from aggregator.folder.follower import RESCAN, FolderFollower
from aggregator.folder.watch import Events, OnEvent
from aggregator.model.registry import Adapter, AdapterSpec, RegistryContext, RegistrySink


class FilesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`path` is a folder or a file, relative to the settings file's folder."""

    path: str
    recursive: bool = True
    glob: tuple[str, ...] = ("*.yaml", "*.yml", "*.json")


class FilesAdapter:
    """Feeds the mesh from one folder or file.

    *on_event* is told when the watcher speaks, which is where latency is measured from.
    """

    def __init__(
        self,
        context: RegistryContext,
        settings: FilesSettings,
        *,
        on_event: OnEvent | None = None,
        events: Events = awatch,
        rescan: float = RESCAN,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        bare: FilteringBoundLogger = log or structlog.get_logger(__name__)
        self._follower = FolderFollower(
            Path(context.base_dir) / settings.path,
            settings.glob,
            context.name,
            partial(decode_file, context=context),
            recursive=settings.recursive,
            on_event=on_event,
            events=events,
            rescan=rescan,
            log=bare.bind(adapter=context.name, cluster_id=context.cluster_id),
        )

    async def run(self, sink: RegistrySink) -> None:
        """Feed *sink* until cancelled.

        Raises AdapterUnavailableError when the folder is not there or cannot be read.
        """
        await self._follower.run(sink)


def create(context: RegistryContext, settings: FilesSettings) -> Adapter:
    """Make the adapter of one folder."""
    return FilesAdapter(context, settings)


ADAPTER = AdapterSpec("files", FilesSettings, create, longest_wait=2.0)
