"""Cases of tests/golden: input in one file, and the Envoy resources that it brings about.

The input's first document says for whom and what to show (`Head`); the others are what a user
writes. Further registries have a file each, `in.<name>.yaml`. Clusters that every proxy has are
left out.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from envoy.config.core.v3 import base_pb2
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from msgspec import Struct, structs
from msgspec.structs import replace

from adapters.files.decode import decode_file
from aggregator.folder.reader import FileContent
from aggregator.generators.name import BLACK_HOLE, PASSTHROUGH
from aggregator.generators.spec import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    Resource,
    ResourceType,
)
from aggregator.model.errors import Origin, Problem
from aggregator.model.registry import Content, RegistryContext, ShardKey
from aggregator.push.engine import Engine
from aggregator.push.state import Cause, ViewDiff, ViewState
from aggregator.registry.aggregate import Aggregate
from aggregator.settings import Merge
from aggregator.xds.node import decode_node
from config.mesh import MeshConfig, Network
from config.shape import decode_struct
from tests.support.mesh import make_engine

GOLDENS: Final = Path(__file__).parents[1] / "golden"
INPUT: Final = "in.yaml"
TYPES: Final[Mapping[str, ResourceType]] = {
    "clusters": CLUSTER,
    "endpoints": ENDPOINT,
    "listeners": LISTENER,
    "routes": ROUTE,
    "virtual_hosts": VIRTUAL_HOST,
}
PROBLEMS: Final = "problems"
FIXED: Final = frozenset({BLACK_HOLE, PASSTHROUGH})
REGISTRY: Final = "files"
CONTEXT: Final = RegistryContext(name=REGISTRY, cluster_id=REGISTRY, namespace="shop")


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """Where what a registry tells is."""

    cluster_id: str = ""
    network: str = ""
    locality: str = ""


class Head(Struct, frozen=True, forbid_unknown_fields=True):
    """`show` names the types, or ``problems``; `proxy` is an xDS node, `mesh` a MeshConfig.

    `registries` places the one of the input (``files``) and further ones, in the order of
    precedence; `networks` and `merge` are those sections of the settings.
    """

    show: tuple[str, ...]
    proxy: dict[str, Any] = {}
    mesh: dict[str, Any] = {}
    registries: dict[str, Place] = {}
    networks: dict[str, Network] = {}
    merge: tuple[Merge, ...] = ()


class Golden(Struct, frozen=True):
    """One case."""

    folder: Path
    head: Head
    contents: Mapping[str, FileContent]

    @property
    def name(self) -> str:
        """``<topic>/<case>``."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def contexts(self) -> dict[str, RegistryContext]:
        """The registries, in the order of precedence."""
        return contexts_of(self.head)

    @property
    def mesh(self) -> MeshConfig:
        """Mesh settings."""
        return decode_struct(self.head.mesh, MeshConfig, "mesh", lambda _path: Origin(INPUT))

    @property
    def node(self) -> base_pb2.Node:
        """How the proxy introduces itself: a VM without redirection, unless the case says more."""
        node = {
            "id": "vm-1",
            "cluster": "vms",
            "user_agent_name": "envoy",
            "metadata": {"NAMESPACE": "shop", "INTERCEPTION_MODE": "NONE"},
        }
        return json_format.ParseDict(node | self.head.proxy, base_pb2.Node())


class GoldenSource:
    """A mesh that holds one case at a time; `load` swaps it as an edited file would."""

    def __init__(self) -> None:
        self.aggregate: Final = Aggregate(self._changed, clock=time.monotonic)
        self.engine: Final[Engine] = make_engine(self.aggregate)
        self._contexts: dict[str, RegistryContext] = {}

    def load(self, golden: Golden | None) -> None:
        """Put the case in the place of the one before; None leaves nothing."""
        mesh = golden.mesh if golden else MeshConfig()
        self.aggregate.set_mesh(mesh)
        self.engine.set_mesh(mesh)
        self.aggregate.set_networks(golden.head.networks if golden else {})
        self.aggregate.set_merge_rules([each.rule for each in golden.head.merge] if golden else [])
        contexts = golden.contexts if golden else {}
        for name, context in self._contexts.items():
            if contexts.get(name) != context:
                self.aggregate.remove_registry(name)
        self._contexts = contexts
        self.aggregate.set_precedence(list(contexts))
        for name, context in contexts.items():
            sink = self.aggregate.sink(name, context)
            given = golden.contents[name].items if golden else {}
            for kind in (Content.SERVICES, Content.RULES):
                sink.replace(ShardKey(name, INPUT, kind), given.get(kind, {}), explicit=True)

    def _changed(self, changes: Iterable[Any]) -> None:
        self.engine.submit(changes)


def read_goldens() -> list[Golden]:
    """Every case, sorted."""
    return [read_golden(each.parent) for each in sorted(GOLDENS.glob(f"*/*/{INPUT}"))]


def read_golden(folder: Path) -> Golden:
    """Read a case; its input has to be right."""
    text = (folder / INPUT).read_bytes()
    first, separator, rest = text.partition(b"\n---\n")
    head = decode_struct(yaml.safe_load(first), Head, "", lambda _path: Origin(INPUT))
    assert separator
    # Lines keep their numbers, so that problems tell the right ones.
    above = b"\n" * (first.count(b"\n") + 2)
    contents = {}
    for name, context in contexts_of(head).items():
        file = INPUT if name == REGISTRY else f"in.{name}.yaml"
        own = above + rest if name == REGISTRY else (folder / file).read_bytes()
        contents[name] = decode_file(own, file, context)
        assert not contents[name].broken, "\n".join(map(str, contents[name].problems))
    return Golden(folder, head, contents)


def contexts_of(head: Head) -> dict[str, RegistryContext]:
    """The registries of a case, in the order of precedence."""
    found = {REGISTRY: CONTEXT} if REGISTRY not in head.registries else {}
    for name, place in head.registries.items():
        found[name] = replace(CONTEXT, name=name, **structs.asdict(place))
    return found


async def build_golden(golden: Golden) -> dict[str, str]:
    """The content of the case's files of expected resources, by name."""
    source = GoldenSource()
    source.load(golden)
    view = await _attach(source.engine, golden)
    files = {
        f"out.{name}.yaml": _print(_shown(view, TYPES[name].type_url))
        for name in golden.head.show
        if name != PROBLEMS
    }
    if PROBLEMS in golden.head.show:
        given = (problem for each in golden.contents.values() for problem in each.problems)
        found = (*given, *source.aggregate.conflicts(), *source.engine.problems())
        files[f"out.{PROBLEMS}.yaml"] = _print_problems(found)
    return files


class _Follower:
    """A stream that nobody reads."""

    def view_changed(self, diff: ViewDiff, cause: Cause) -> None:
        """Nothing is sent."""

    def view_moved(self, view: ViewState) -> None:
        """Nothing is sent."""


async def _attach(engine: Engine, golden: Golden) -> ViewState:
    await engine.push()
    proxy = decode_node(golden.node, engine.world.domain, 45.0)
    return await engine.attach(_Follower(), proxy, vhds=not proxy.generator)


def _shown(view: ViewState, type_url: str) -> list[Resource]:
    found = view.snapshot(type_url).resources
    return [resource for name, resource in sorted(found.items()) if name not in FIXED]


def _print(resources: Iterable[Resource]) -> str:
    documents = [_readable(each) for each in resources]
    return yaml.safe_dump_all(documents, sort_keys=False, width=100, explicit_start=False)


def _readable(resource: Resource) -> object:
    packed = AnyMessage.FromString(_payload(resource.any_field))
    plain = json_format.MessageToDict(packed, preserving_proto_field_name=True)
    plain.pop("@type")
    return _ordered(plain)


def _payload(field: bytes) -> bytes:
    """The message in a length-delimited field whose tag takes one byte."""
    position = 1
    while field[position] & 0x80:
        position += 1
    return field[position + 1 :]


def _ordered(value: object) -> object:
    """Maps have no order of their own; what a thing is called comes first."""
    if isinstance(value, dict):
        first = ("@type", "name", "cluster_name")
        keys = sorted(value, key=lambda key: (key not in first, key))
        return {key: _ordered(value[key]) for key in keys}
    return [_ordered(each) for each in value] if isinstance(value, list) else value


def _print_problems(problems: Iterable[Problem]) -> str:
    found = [
        {
            "severity": str(each.severity),
            "at": str(each.origin),
            "subject": each.subject,
            "path": each.path,
            "message": each.message,
        }
        for each in sorted(problems)
    ]
    return yaml.safe_dump(found, sort_keys=False, width=100)
