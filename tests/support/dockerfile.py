"""Reads a Dockerfile far enough to check it and to run its build without a container daemon."""

import json
import re
import shlex
from pathlib import Path

from msgspec import Struct

CONTINUATION = re.compile(r"\\\n")
COMMENT = re.compile(r"^\s*#.*\n", re.MULTILINE)


class Instruction(Struct, frozen=True):
    """One instruction, its flags (`--from=build`) apart from its arguments."""

    keyword: str
    flags: dict[str, str]
    arguments: str

    @property
    def words(self) -> list[str]:
        """The arguments of the shell form or of the JSON form."""
        if self.arguments.startswith("["):
            return [str(word) for word in json.loads(self.arguments)]
        return shlex.split(self.arguments)


class Stage(Struct, frozen=True):
    """What follows one FROM."""

    base: str
    name: str
    instructions: list[Instruction]

    def all(self, keyword: str) -> list[Instruction]:
        """The stage's instructions of one kind, in order."""
        return [each for each in self.instructions if each.keyword == keyword]


def read_stages(path: Path) -> list[Stage]:
    """Return the stages in order."""
    text = CONTINUATION.sub("", COMMENT.sub("", path.read_text(encoding="utf-8")))
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        keyword, _, rest = line.partition(" ")
        flags: dict[str, str] = {}
        rest = rest.lstrip()
        while rest.startswith("--"):
            flag, _, rest = rest.partition(" ")
            name, _, value = flag.removeprefix("--").partition("=")
            flags[name] = value
            rest = rest.lstrip()
        instruction = Instruction(keyword.upper(), flags, rest)
        if instruction.keyword == "FROM":
            base, *alias = instruction.words
            stages.append(Stage(base, alias[-1] if alias else "", []))
        else:
            stages[-1].instructions.append(instruction)
    return stages
