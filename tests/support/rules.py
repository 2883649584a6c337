"""Rules written in YAML, as their users write them, for tests that are about what they mean."""

from typing import TypeVar

import yaml
from msgspec import Struct

from aggregator.model.config import Config
from aggregator.model.errors import Origin
from config.kinds.destination_rule import DestinationRule
from config.kinds.sidecar import Sidecar
from config.kinds.virtual_service import VirtualService
from config.shape import decode_struct
from tests.support.builders import config

T = TypeVar("T", bound=Struct)


def decode_spec(of: type[T], text: str) -> T:
    """The spec alone."""
    return decode_struct(yaml.safe_load(text), of, "spec", lambda _path: Origin())


def virtual_service(
    text: str, *, name: str = "rule", namespace: str = "shop", created: float = 0.0
) -> Config:
    """A VirtualService with the spec *text*."""
    spec = decode_spec(VirtualService, text)
    return config("VirtualService", spec, name=name, namespace=namespace, created=created)


def destination_rule(text: str, *, name: str = "policy", namespace: str = "shop") -> Config:
    """A DestinationRule with the spec *text*."""
    return config(
        "DestinationRule", decode_spec(DestinationRule, text), name=name, namespace=namespace
    )


def sidecar(text: str, *, namespace: str = "shop") -> Config:
    """A Sidecar with the spec *text*."""
    return config("Sidecar", decode_spec(Sidecar, text), name="scope", namespace=namespace)
