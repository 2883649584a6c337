"""The folder that the control plane watches: a copy of the demo's with free ports, to be edited."""

import difflib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from examples.demo.program import DemoError, put_ports

RULES: Final = "rules.yaml"
SERVICES: Final = "services.yaml"


class MeshFolder:
    """Services and rules as they are now."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    @classmethod
    def copied(cls, source: Path, path: Path, ports: Mapping[int, int]) -> "MeshFolder":
        """Copy *source* to *path*, with free ports in place of its own."""
        for name in (RULES, SERVICES):
            if not (source / name).is_file():
                message = f"{source} is no folder of the demo: it has no {name}"
                raise DemoError(message)
        shutil.copytree(source, path)
        folder = cls(path)
        for name in (RULES, SERVICES):
            folder.replace(name, put_ports(folder.read(name), ports))
        return folder

    def read(self, name: str) -> str:
        """The text of a file."""
        return (self.path / name).read_text()

    def replace(self, name: str, text: str) -> None:
        """Put a new file in the old one's place, so that nobody ever reads half of it."""
        draft = self.path / f".{name}.new"
        draft.write_text(text)
        draft.rename(self.path / name)

    def item(self, name: str, key: str) -> str:
        """The item of a list that begins with *key*, as it is written; empty if there is none."""
        found = _item(self.read(name), key)
        return found[0] if found else ""


def _item(text: str, key: str) -> re.Match[str] | None:
    """An item goes on as long as lines are indented deeper than its dash."""
    return re.search(rf"^( *)- {re.escape(key)}\n(?:\1 .*\n)*", text, re.MULTILINE)


def set_weights(text: str, route: str, weights: Mapping[str, int]) -> str:
    """Change the weights of a route's subsets; everything else stays as it is written."""
    found = _item(text, f"name: {route}")
    if found is None:
        return text
    item = found[0]
    for subset, weight in weights.items():
        item = re.sub(rf"(subset: {subset}\b.*\n *weight: )\d+", rf"\g<1>{weight}", item)
    return text[: found.start()] + item + text[found.end() :]


def drop_endpoint(text: str, port: int) -> str:
    """Leave out the endpoint of that port, which has a line of its own."""
    return re.sub(rf"^ *- {{address: .*\b{port}\b.*\n", "", text, flags=re.MULTILINE)


def changes(old: str, new: str) -> str:
    """The lines that differ, marked by - and +."""
    marked = difflib.ndiff(old.splitlines(), new.splitlines())
    return "\n".join(line for line in marked if line[0] in "-+")
