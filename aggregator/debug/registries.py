"""How registries fare, as the debug views show it."""

from collections.abc import Iterable
from typing import Any

from msgspec import structs

from aggregator.debug.form import camel_form
from aggregator.model.errors import Problem
from aggregator.registry.status import RegistryStatus


def status_form(status: RegistryStatus, now: float) -> dict[str, Any]:
    """The status with its times in seconds before *now*; the clock's zero means nothing outside."""
    retry_in = None if status.retry_in is None else round(status.retry_in, 3)
    form: dict[str, Any] = camel_form(structs.replace(status, retry_in=retry_in))
    success = form.pop("lastSuccess")
    form["lastSuccessSecondsAgo"] = None if success is None else round(now - success, 3)
    form["ageSeconds"] = round(form.pop("age"), 3)
    return form


def problem_forms(problems: Iterable[Problem]) -> list[dict[str, object]]:
    """What is wrong, with its place."""
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


def problems_by_scope(
    problems: Iterable[tuple[tuple[str, str], Iterable[Problem]]],
) -> list[dict[str, object]]:
    """What is wrong in each scope of each registry."""
    return [
        {"registry": registry, "scope": scope, "problems": problem_forms(found)}
        for (registry, scope), found in sorted(problems, key=lambda each: each[0])
    ]
