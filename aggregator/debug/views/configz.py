"""`configz`: every rule in Kubernetes' form, and everything that is wrong with what was written."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from aggregator.debug.form import camel_form
from aggregator.debug.registries import problem_forms, problems_by_scope
from aggregator.debug.sources import SettingsStatus, Sources
from aggregator.debug.spec import Query, ViewSpec, known_parameter
from aggregator.model.config import Config
from aggregator.model.errors import Problem
from config.decode import encode_config
from config.kind_table import kinds


class _Content(Struct, frozen=True):
    configs: tuple[Config, ...]
    settings: SettingsStatus
    problems: Mapping[tuple[str, str], tuple[Problem, ...]]
    conflicts: tuple[Problem, ...]
    unusable: tuple[Problem, ...]


def _read(sources: Sources, query: Query) -> _Content:
    known_parameter(query, "kind", kinds(), "kind")
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
        "settings": camel_form(content.settings),
        "problems": problems_by_scope(content.problems.items()),
        "conflicts": problem_forms(content.conflicts),
        "unusable": problem_forms(content.unusable),
    }


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
