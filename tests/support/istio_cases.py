"""How far our validation agrees with Istio's own, on documents whose verdicts by Istio are known.

``python -m tests.support.istio_cases`` prints the share per kind and what is judged otherwise.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from aggregator.model.errors import ConfigError, Origin, Problem, Severity
from config.decode import load_config
from config.documents import Document
from config.kind_table import kinds

FILE = Path(__file__).parents[2].parent / "shared" / "cases" / "istio_validation.jsonl"


class Case(Struct, frozen=True):
    """A document and what Istio says of it."""

    id: str
    document: dict[str, Any]
    valid: bool
    warns: bool


class Verdict(Struct, frozen=True):
    """A case and what we say of it."""

    case: Case
    valid: bool
    problems: tuple[Problem, ...]

    @property
    def kind(self) -> str:
        """The document's kind."""
        return str(self.case.document["kind"])

    @property
    def agrees(self) -> bool:
        """Whether both take it or both refuse it."""
        return self.valid == self.case.valid

    @property
    def warning_agrees(self) -> bool:
        """Whether both warn of it or neither does; of refused ones warnings do not matter."""
        warns = any(each.severity is Severity.WARNING for each in self.problems)
        return not (self.valid and self.case.valid) or warns == self.case.warns


def verdicts() -> list[Verdict]:
    """Our verdict on every case of a kind that we know."""
    decoder = msgspec.json.Decoder(Case)
    cases = (decoder.decode(line) for line in FILE.read_bytes().splitlines())
    return [judge(case) for case in cases if case.document["kind"] in kinds()]


def judge(case: Case) -> Verdict:
    """Our verdict on one case."""
    document = Document(case.document, Origin(case.id, 1))
    try:
        loaded = load_config(document, default_namespace="default")
    except ConfigError as error:
        return Verdict(case, False, error.problems)
    return Verdict(case, True, loaded.warnings)


def shares(found: list[Verdict]) -> dict[str, float]:
    """The share of cases on which we agree, by kind."""
    whole = Counter(each.kind for each in found)
    agreed = Counter(each.kind for each in found if each.agrees)
    return {kind: agreed[kind] / count for kind, count in sorted(whole.items())}


def main() -> None:
    """Print the shares, and each case on which we do not agree."""
    found = verdicts()
    for kind, share in shares(found).items():
        sys.stdout.write(f"{kind:16} {share:7.1%}\n")
    for each in found:
        if not each.agrees or not each.warning_agrees:
            case = each.case
            sys.stdout.write(f"\n{case.id}: theirs valid={case.valid} warns={case.warns}\n")
            sys.stdout.writelines(f"  ours: {problem}\n" for problem in each.problems)


if __name__ == "__main__":
    main()
