"""Documents written in tests, as files hold them."""

from textwrap import dedent

from aggregator.model.errors import ConfigError, Problem
from aggregator.model.registry import RegistryContext
from config.decode import Loaded, load_config
from config.documents import Document, read_documents
from config.items import Items, decode_items
from config.kind_table import kinds

CONTEXT = RegistryContext(name="vms", cluster_id="c1")


def documents(text: str, source: str = "rules.yaml") -> tuple[Document, ...]:
    """All documents of a text that must be sound YAML; its common indentation is taken off."""
    read = read_documents(dedent(text).encode(), source)
    assert not read.problems, read.problems
    return read.documents


def document(text: str, source: str = "rules.yaml") -> Document:
    """The only document of a text."""
    (only,) = documents(text, source)
    return only


def rule(kind: str, spec: str, *, name: str = "rule", namespace: str = "shop") -> Document:
    """A rule; *spec* is the YAML under ``spec:``, whose first line is line 4."""
    body = "".join(f"  {line}\n" for line in dedent(spec).strip("\n").splitlines())
    known = kinds().get(kind)
    version = known.api_versions[0] if known is not None else "networking.istio.io/v1"
    head = f"apiVersion: {version}\nkind: {kind}\n"
    return document(f"{head}metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{body}")


def load(kind: str, spec: str, *, name: str = "rule", namespace: str = "shop") -> Loaded:
    """A rule that must be valid, and its warnings."""
    given = rule(kind, spec, name=name, namespace=namespace)
    return load_config(given, default_namespace="default")


def faults(kind: str, spec: str, *, name: str = "rule", namespace: str = "shop") -> list[Problem]:
    """The errors of a rule, none if it is valid."""
    try:
        load(kind, spec, name=name, namespace=namespace)
    except ConfigError as error:
        return list(error.problems)
    return []


def fault_paths(kind: str, spec: str) -> list[str]:
    """The fields of a rule that are wrong, without the leading ``spec.``."""
    return [problem.path.removeprefix("spec.") for problem in faults(kind, spec)]


def warning_paths(kind: str, spec: str) -> list[str]:
    """The fields of a valid rule that its author is warned of, without the leading ``spec.``."""
    return [problem.path.removeprefix("spec.") for problem in load(kind, spec).warnings]


def items(text: str, context: RegistryContext = CONTEXT) -> Items:
    """What the only document of a text gives."""
    return decode_items(document(text), context)


def item_faults(text: str, context: RegistryContext = CONTEXT) -> list[tuple[int, str]]:
    """Line and path of every error of the only document of a text."""
    try:
        items(text, context)
    except ConfigError as error:
        return [(problem.origin.line, problem.path) for problem in error.problems]
    return []
