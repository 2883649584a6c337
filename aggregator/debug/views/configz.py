"""`configz`: every rule in Kubernetes' form, and everything that is wrong with what was written."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from aggregator.debug.sources import SettingsStatus, Sources
from aggregator.debug.spec import Query, ViewSpec
from aggregator.model.config import Config
from aggregator.model.errors import Problem
from config.decode import encode_config


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


def kubernetes_form(config: Config) -> dict[str, Any]:
    """The object as `kubectl` would show it; where it was written stands in an annotation."""
    form = encode_config(config)
    metadata: dict[str, Any] = form["metadata"]
    if config.created:
        created = datetime.fromtimestamp(config.created, UTC)
        metadata["creationTimestamp"] = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    if config.origin.source:
        annotations = metadata.setdefault("annotations", {})
        annotations["mesh-aggregator/origin"] = str(config.origin)
    return form


VIEW: Final = ViewSpec(
    "configz",
    "Every rule in Kubernetes' form; what is wrong in sources, between them, and for proxies.",
    _read,
    _render,
    {"kind": "only this kind", "namespace": "only this namespace"},
)
