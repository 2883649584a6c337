"""Kubeconfigs in files and secrets to the registries that they announce. Pure.

Only what tells a kubeconfig from other text is looked at, and what one must not do; whether its
server can be reached with it, the adapter that reads the cluster finds out.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final

from msgspec import Struct

from adapters.remote_clusters.settings import KUBERNETES, RemoteClustersSettings
from aggregator.folder.reader import FileContent
from aggregator.model.errors import Origin, Problem
from aggregator.model.registry import AnnouncedRegistry, Content, RegistryContext
from aggregator.model.secret import Redacted, Secret
from config.documents import Document, read_documents

_INHERITED: Final = ("namespace", "export_to", "locality", "network", "protocol", "rules")
"""What a remote cluster takes from the registry that finds it, unless its settings say more."""

_FILES: Final = ("tokenFile", "client-certificate", "client-key")
_PROGRAMS: Final = ("exec", "auth-provider")


class Announcement(Struct, frozen=True):
    """What came of one kubeconfig: a registry, or what is wrong with the text."""

    registry: AnnouncedRegistry | None = None
    problems: tuple[Problem, ...] = ()


class Announcer:
    """Makes registries of kubeconfigs, by the settings of the registry that finds them."""

    def __init__(self, context: RegistryContext, settings: RemoteClustersSettings) -> None:
        inherited = {name: getattr(context, name) for name in _INHERITED}
        # In the form of a settings file, which has lists.
        self._inherited: Final = inherited | {"export_to": list(context.export_to)}
        self._settings: Final = settings

    def decode_file(self, text: bytes, source: str) -> FileContent:
        """A file of a folder: the name without its ending is the cluster id."""
        path = PurePath(source)
        cluster_id = path.name.removesuffix(".yaml")
        problems = tuple(_faults(text, source, f"cluster {cluster_id}"))
        if problems:
            return FileContent({}, problems, broken=True)
        found = self._announce(cluster_id, text, Origin(source), base_dir=str(path.parent))
        return FileContent({Content.REGISTRIES: {cluster_id: found}})

    def decode_secret(self, secret: Secret) -> dict[str, Announcement]:
        """A secret: each key is a cluster id, each value a kubeconfig.

        It may neither name files, which are ours, nor have programs run, unless that is allowed.
        """
        return {
            cluster_id: self._decode_key(secret, cluster_id, secret.data[cluster_id].reveal())
            for cluster_id in sorted(secret.data)
        }

    def _decode_key(self, secret: Secret, cluster_id: str, text: bytes) -> Announcement:
        subject = f"Secret {secret.namespace}/{secret.name}, cluster {cluster_id}"
        source = f"{secret.origin.source}[{cluster_id}]"
        problems = tuple(
            _faults(text, source, subject, trusted=False, programs=self._settings.allow_exec)
        )
        if problems:
            return Announcement(problems=problems)
        return Announcement(
            self._announce(cluster_id, text, Origin(source), created=secret.created)
        )

    def _announce(
        self,
        cluster_id: str,
        text: bytes,
        origin: Origin,
        *,
        base_dir: str = "",
        created: float = 0.0,
    ) -> AnnouncedRegistry:
        settings = self._inherited | self._settings.announced(cluster_id)
        return AnnouncedRegistry(
            cluster_id, KUBERNETES, settings, Redacted(text), base_dir, created, origin
        )


def _faults(
    text: bytes, source: str, subject: str, *, trusted: bool = True, programs: bool = True
) -> Iterator[Problem]:
    """Why a text is no kubeconfig, or which of its parts are not allowed."""
    documents = read_documents(text, source)
    for problem in documents.problems:
        yield Problem(
            problem.origin, problem.path, f"no kubeconfig: {problem.message}", subject=subject
        )
    if documents.problems:
        return
    if len(documents.documents) != 1:
        message = f"expected one kubeconfig, found {len(documents.documents)} objects"
        yield Problem(Origin(source), "", message, subject=subject)
        return
    (document,) = documents.documents
    kind = document.data.get("kind", "Config")
    if kind != "Config":
        message = "expected a kubeconfig, whose kind is Config"
        yield Problem(document.position("kind"), "kind", message, subject=subject)
    for name in ("clusters", "contexts"):
        if not document.data.get(name) or not isinstance(document.data[name], list):
            message = "required in a kubeconfig: a list with at least one entry"
            yield Problem(document.position(name), name, message, subject=subject)
    if not trusted:
        for path, message in _forbidden(document, programs=programs):
            yield Problem(document.position(path), path, message, subject=subject)


def _forbidden(document: Document, *, programs: bool) -> Iterator[tuple[str, str]]:
    """What the writer of a secret must not make us do."""
    no_file = "a kubeconfig from a secret may not name files; put the content into it"
    no_program = "no program is run for a kubeconfig from a secret unless `allow_exec` is true"
    for index, cluster in _entries(document, "clusters", "cluster"):
        if cluster.get("certificate-authority"):
            yield f"clusters[{index}].cluster.certificate-authority", no_file
    for index, user in _entries(document, "users", "user"):
        for name in _FILES:
            if user.get(name):
                yield f"users[{index}].user.{name}", no_file
        for name in _PROGRAMS:
            if user.get(name) and not programs:
                yield f"users[{index}].user.{name}", no_program


def _entries(document: Document, plural: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    listed = document.data.get(plural)
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        inner = entry.get(name) if isinstance(entry, dict) else None
        if isinstance(inner, dict):
            yield index, inner
