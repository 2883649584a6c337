"""What people write for a Consul registry, and what they are told of mistakes in it."""

import re
from pathlib import Path

import pytest

from adapters.consul.adapter import create
from adapters.consul.settings import ConsulSettings
from aggregator.model.errors import ConfigError
from aggregator.model.registry import RegistryContext
from aggregator.settings import decode_settings, load_settings

ROOT = Path(__file__).parents[4]


def problems_of(line: str) -> str:
    """What is said of a registry with this line in its settings."""
    text = f"registries:\n- name: dc1\n  type: consul\n  {line}\n"
    with pytest.raises(ConfigError) as raised:
        decode_settings(text.encode(), Path("/etc/mesh.yaml"))
    return str(raised.value)


@pytest.mark.parametrize(
    "line",
    [
        "address: localhost",
        "address: 'ftp://localhost:8500'",
        "address: 'localhost:0'",
        "fallback_addresses: ['a b:8500']",
        "health: [fine]",
        "consistency: eventual",
        "watches: 1000",
        "wait: 60",
        "tls: {ca_file: ca.pem}",
        "register: {address: 10.0.0.1}",
        "datacentres: [dc1]",
    ],
)
def test_a_mistake_is_told_with_its_line_and_field(line: str) -> None:
    """One message, at the place where it has to be mended."""
    told = problems_of(line)

    assert told.startswith("/etc/mesh.yaml:")
    assert "registries[0]" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "address", ["localhost:8500", "10.0.0.1:8500", "[::1]:8500", "https://consul.example.com:8501"]
)
def test_addresses_are_taken_in_every_usual_form(address: str) -> None:
    """With a scheme or without, for IPv6 too."""
    text = f"registries: [{{name: dc1, type: consul, address: '{address}'}}]"

    settings = decode_settings(text.encode(), Path("/etc/mesh.yaml")).registries[0].adapter

    assert isinstance(settings, ConsulSettings)
    assert settings.addresses == (address,)


def test_a_template_that_makes_no_hosts_is_refused() -> None:
    """With the placeholders that there are."""
    context = RegistryContext(name="dc1", cluster_id="", host_template="{svc}.mesh")

    with pytest.raises(ConfigError, match=r"svc.*\{service\}"):
        create(context, ConsulSettings())


def test_the_example_and_the_documentation_can_be_used() -> None:
    """What is copied from there starts."""
    example = load_settings(ROOT / "examples" / "consul" / "mesh-aggregator.yaml")
    assert [each.type for each in example.registries] == ["consul"]

    text = (ROOT / "docs" / "consul.md").read_text()
    (shown,) = re.findall(r"```yaml\n(registries:.*?)```", text, re.DOTALL)
    (register,) = re.findall(r"```yaml\n(  register:.*?)```", text, re.DOTALL)
    settings = decode_settings(f"{shown}{register}".encode(), ROOT / "docs" / "mesh.yaml")

    assert settings.warnings == ()
    (registry,) = settings.registries
    assert isinstance(registry.adapter, ConsulSettings)
    assert registry.adapter.register is not None
