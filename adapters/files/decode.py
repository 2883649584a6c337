"""The text of one file to what it gives. Pure.

A file with an error anywhere gives nothing: half a file may be worse than none.
"""

from collections.abc import Iterator

from aggregator.folder.reader import FileContent
from aggregator.model.errors import ConfigError, Problem
from aggregator.model.registry import Content, Item, RegistryContext
from config.documents import Document, read_documents
from config.items import Items, decode_items
from config.shape import MOST_TOLD


def decode_file(text: bytes, source: str, context: RegistryContext) -> FileContent:
    """Decode every document of a file; all errors are found at once, up to `MOST_TOLD`."""
    documents = read_documents(text, source)
    errors = list(documents.problems)
    found: dict[Content, dict[str, Item]] = {Content.SERVICES: {}, Content.RULES: {}}
    lines: dict[str, int] = {}
    warnings: list[Problem] = []
    for document in documents.documents:
        try:
            items = decode_items(document, context)
        except ConfigError as error:
            errors += error.problems
            if len(errors) > MOST_TOLD + 1:
                break
            continue
        warnings += items.warnings
        for key, item, kept in _keyed(document, items, found, rules=context.rules):
            if key in lines:
                message = f"{key} is in this file already, at line {lines[key]}"
                errors.append(Problem(document.origin, "", message))
            lines[key] = document.origin.line
            kept[key] = item
    if errors:
        return FileContent({}, _bounded(errors), broken=True)
    return FileContent(found, _bounded(warnings))


def _bounded(problems: list[Problem]) -> tuple[Problem, ...]:
    """The first of many problems, and that there are more."""
    if len(problems) <= MOST_TOLD + 1:
        return tuple(problems)
    first = problems[MOST_TOLD]
    message = f"from here on more is wrong; only the first {MOST_TOLD} problems are told"
    more = Problem(first.origin, "", message, first.severity)
    return (*problems[:MOST_TOLD], more)


def _keyed(
    document: Document, items: Items, found: dict[Content, dict[str, Item]], *, rules: bool
) -> Iterator[tuple[str, Item, dict[str, Item]]]:
    """Each item with a key that lasts while the file is edited, and where it goes."""
    kind = document.data.get("kind")
    metadata = document.data.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    for service in items.services:
        own = f"{service.namespace}/{name}" if kind else f"{service.namespace}/{service.host}"
        yield f"{kind or 'service'} {own}", service, found[Content.SERVICES]
    if rules:
        for rule in items.rules:
            yield str(rule.key), rule, found[Content.RULES]
