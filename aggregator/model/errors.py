"""The error tree and the `Problem`, which is how wrong input is reported.

MeshError
├── ConfigError               settings or rules that cannot be used
├── AdapterError
│   ├── AdapterUnavailableError   the registry does not answer: retried with back-off
│   └── AdapterRejectedError      the registry refuses us (credentials, permissions): retried at the
longest wait ├── GenerationError           a resource that cannot be built from otherwise valid
input └── StreamError               a client that breaks the protocol
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct


class MeshError(Exception):
    """Root of all errors that this project raises on purpose."""


class AdapterError(MeshError):
    """A registry could not be read; its last good state stays."""


class AdapterUnavailableError(AdapterError):
    """The registry does not answer, or answers in part."""


class AdapterRejectedError(AdapterError):
    """The registry refuses the credentials or the request."""


class GenerationError(MeshError):
    """One object cannot be expressed as an Envoy resource; it alone is left out."""


class StreamError(MeshError):
    """A client broke the xDS protocol; its stream is closed with this text."""


class Severity(StrEnum):
    """An error keeps the object out; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Origin(Struct, frozen=True, order=True):
    """Where an object was written: `source` is a file or `registry/namespace/name`; `line` counts
    from 1, 0 is unknown.
    """

    source: str = ""
    line: int = 0

    def __str__(self) -> str:
        """The form editors and shells understand, ``file:line``."""
        return f"{self.source}:{self.line}" if self.line else self.source


class Problem(Struct, frozen=True, order=True):
    """One thing that is wrong with the input: where, at which field, and what was expected.

    `path` is the field's path as in ``spec.http[0].route[1].weight``; empty for the whole object.
    """

    origin: Origin
    path: str
    message: str
    severity: Severity = Severity.ERROR
    subject: str = ""  # "VirtualService shop/reviews", where there is one

    def __str__(self) -> str:
        """One line for logs and terminals, which what is quoted in it must not control."""
        parts = [str(self.origin), self.subject, self.path, self.message]
        text = ": ".join(part for part in parts if part)
        if text.isprintable():
            return text
        return "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
        )


class ConfigError(MeshError):
    """Settings or rules that cannot be used; `problems` has every reason found."""

    def __init__(self, problems: "tuple[Problem, ...] | Problem") -> None:
        self.problems: Final = problems if isinstance(problems, tuple) else (problems,)
        super().__init__("\n".join(str(problem) for problem in self.problems))
