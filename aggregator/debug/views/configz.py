"""`configz`: every rule in Kubernetes' form, and everything that is wrong with what was written."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from aggregator.debug.sources import SettingsStatus, Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.model.config import Config
from aggregator.model.errors import Problem
from config.kind_table import kinds


class _Content(Struct, frozen=True):
    configs: tuple[Config, ...]
    settings: SettingsStatus
    problems: Mapping[tuple[str, str], tuple[Problem, ...]]
    conflicts: tuple[Problem, ...]
    unusable: tuple[Problem, ...]


def _read(sources: Sources, query: Query) -> _Content:
    aggregate = sources.aggregate
    found = (aggregate.config(key) for key in sorted(aggregate.config_keys()))
    return _Content(
        tuple(config for config in found if config is not None and _wanted(config, query)),
        sources.settings,
        aggregate.problems(),
        aggregate.conflicts(),
        tuple(sources.engine.problems()),
    )


def _wanted(config: Config, query: Query) -> bool:
    return query.get("kind", config.kind) == config.kind and (
        query.get("namespace", config.namespace) == config.namespace
    )


def _render(content: _Content) -> object:
    return {
        "configs": [kubernetes_form(config) for config in content.configs],
        "settings": content.settings,
        "problems": [
            {"registry": registry, "scope": scope, "problems": _texts(problems)}
            for (registry, scope), problems in sorted(content.problems.items())
        ],
        "conflicts": _texts(content.conflicts),
        "unusable": _texts(content.unusable),
    }


def _texts(problems: Iterable[Problem]) -> list[dict[str, object]]:
    return [
        {
            "source": str(problem.origin),
            "subject": problem.subject,
            "path": problem.path,
            "message": problem.message,
            "severity": problem.severity,
        }
        for problem in problems
    ]


def kubernetes_form(config: Config) -> dict[str, object]:
    """The object as `kubectl` would show it; where it was written stands in an annotation."""
    metadata: dict[str, object] = {"name": config.name, "namespace": config.namespace}
    if config.created:
        created = datetime.fromtimestamp(config.created, UTC)
        metadata["creationTimestamp"] = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    if config.labels:
        metadata["labels"] = dict(config.labels)
    origin = {"mesh-aggregator/origin": str(config.origin)} if config.origin.source else {}
    if config.annotations or origin:
        metadata["annotations"] = dict(config.annotations) | origin
    spec = kinds().get(config.kind)
    return {
        "apiVersion": spec.api_versions[0] if spec else "",
        "kind": config.kind,
        "metadata": metadata,
        "spec": config.spec,
    }


VIEW: Final = ViewSpec(
    "configz",
    "Every rule in Kubernetes' form; what is wrong in sources, between them, and for proxies.",
    _read,
    _render,
    {"kind": "only this kind", "namespace": "only this namespace"},
)
