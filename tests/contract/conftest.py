"""Which registries the suite runs over, and the system that its cases break.

`--contract package.module:Class` names the driver of another one, which is then the only one.
"""

import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.contract.driver import Ability, Driver
from tests.contract.system import SERVICES, System, running_system

DRIVERS: Final = (
    "tests.contract.files_driver:FilesDriver",
    "tests.contract.kubernetes_driver:KubernetesDriver",
    "tests.contract.consul_driver:ConsulDriver",
    "tests.contract.etcd_driver:EtcdDriver",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each case over each registry that can be put through it."""
    if "driver_type" not in metafunc.fixturenames:
        return
    needs = _needs(metafunc.definition)
    named = metafunc.config.getoption("contract") or DRIVERS
    fitting = [each for each in map(load_driver, named) if needs <= each.abilities]
    # Whether a case starts a server is told by the driver.
    marks = {Ability.SERVER: pytest.mark.servers}
    cases = [
        pytest.param(
            each, id=each.type, marks=[marks[has] for has in each.abilities & marks.keys()]
        )
        for each in fitting
    ]
    metafunc.parametrize("driver_type", cases)


def _needs(case: pytest.Item) -> set[Ability]:
    return {Ability(each) for mark in case.iter_markers("needs") for each in mark.args}


def load_driver(name: str) -> type[Driver]:
    """The class that ``package.module:Class`` names."""
    module, _, attribute = name.partition(":")
    found: type[Driver] = getattr(importlib.import_module(module), attribute)
    assert issubclass(found, Driver)
    return found


@pytest.fixture
async def driver(
    driver_type: type[Driver], tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Driver]:
    """A registry that runs and knows nothing."""
    secure = Ability.TLS in _needs(request.node)
    driver = driver_type(tmp_path / "registry", secure=secure)
    await driver.start()
    yield driver
    await driver.aclose()


@pytest.fixture
async def system(driver: Driver, tmp_path: Path) -> AsyncIterator[System]:
    """A registry that knows `SERVICES`, and a control plane in sync with it.

    When the case is over nothing may be left: no task, no descriptor.
    """
    await driver.put_all(SERVICES)
    async with running_system(driver, tmp_path) as system:
        yield system
