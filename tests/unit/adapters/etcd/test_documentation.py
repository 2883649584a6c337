"""docs/etcd.md shows what is taken."""

import re
from pathlib import Path
from typing import Final

from adapters.etcd.settings import EtcdSettings
from aggregator.model.registry import RegistryContext
from aggregator.settings import decode_settings
from config.keyed import decode_entry

DOCS: Final = Path(__file__).parents[4] / "docs"
EXAMPLES: Final = re.findall(r"```yaml\n(.*?)```", (DOCS / "etcd.md").read_text(), re.DOTALL)


def test_the_settings_that_are_shown_are_valid() -> None:
    """What is copied from there starts."""
    settings = decode_settings(EXAMPLES[0].encode(), DOCS / "mesh.yaml")

    (registry,) = settings.registries
    assert isinstance(registry.adapter, EtcdSettings)
    assert len(registry.adapter.endpoints) == 3


def test_the_values_that_are_shown_can_be_read() -> None:
    """They are the only description of the form."""
    context = RegistryContext(name="kv", cluster_id="")
    service, instance = EXAMPLES[1:]

    decode_entry("services/shop/a.mesh", service.encode(), context, "docs")
    decode_entry("instances/shop/a.mesh/1", instance.encode(), context, "docs")
