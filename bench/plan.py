"""The rows that are measured, each with the goal that it has."""

from typing import Final

from msgspec.structs import replace

from bench.churn import Flood
from bench.figure import Axis, Case, Goal
from bench.mesh import Change

ROUNDS: Final = 60
QUICK_ROUNDS: Final = 12
FOLDER_QUICK_ROUNDS: Final = 30
STORMS: Final = 3


def cases(*, quick: bool = False) -> tuple[Case, ...]:
    """All rows but growth. The quick ones are of the same sizes, in fewer rounds and storms."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    in_folder = FOLDER_QUICK_ROUNDS if quick else ROUNDS
    storms = 1 if quick else STORMS
    folder = Goal(milliseconds=20)
    first = (
        Case(Change.RENAME, 1000, 100, True, in_folder, folder),
        Case(Change.RENAME, 1000, 100, False, in_folder, folder),
        Case(Change.IN_PLACE, 1000, 100, True, in_folder, folder),
        Case(Change.ENDPOINT, 1000, 100, True, rounds, Goal(20)),
        Case(Change.ENDPOINT, 1000, 500, True, rounds, Goal(45, floors=2, cpu_seconds=0.08)),
        Case(Change.ENDPOINT, 1000, 500, False, rounds, Goal(100, floors=1.5, cpu_seconds=0.12)),
        Case(Change.RULE, 1000, 100, True, rounds, Goal(20, cpu_seconds=0.05, sent_mb=1)),
        Case(Change.RULE, 1000, 100, False, rounds, Goal(150, cpu_seconds=0.1)),
        Case(Change.SERVICE, 4000, 100, True, rounds, Goal(30, cpu_seconds=0.1, sent_mb=1)),
        Case(Change.CONNECT, 1000, 500, True, storms, Goal(3500, cpu_seconds=2, peak_mb=400)),
        Case(Change.SLICE, 1000, 100, True, in_folder, Goal(20)),
    )
    long = (
        Case(Change.START, 2000, 0, True, storms, Goal(6000, peak_mb=350)),
        Case(Change.SLICE, 1000, 100, False, in_folder),
        Case(Change.IN_PLACE, 1000, 100, False, in_folder, folder),
        Case(Change.CONNECT, 1000, 500, False, storms, Goal(3500, cpu_seconds=2, peak_mb=400)),
        Case(Change.CONNECT, 4000, 100, True, storms, Goal(3000, cpu_seconds=1.5, peak_mb=450)),
        Case(Change.CONNECT, 4000, 100, False, storms, Goal(3000, cpu_seconds=1.5, peak_mb=450)),
    )
    return first if quick else first + long


def growth(*, quick: bool = False) -> tuple[tuple[Axis, float, tuple[Case, ...]], ...]:
    """What grows, by how much the largest may cost more than the smallest, and the meshes."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    few = Case(Change.ENDPOINT, 1000, 10, True, rounds)
    sizes = (500, 2000) if quick else (500, 1000, 2000, 4000, 10_000)
    curves = [(Axis.SERVICES, 1.2, tuple(replace(few, services=size) for size in sizes))]
    if not quick:
        small = replace(few, services=100)
        proxies = (100, 500, 1000, 2000, 5000)
        views = (1, 10, 100, 500)
        curves += [
            (Axis.ENDPOINTS, 0.0, tuple(replace(few, endpoints=n) for n in (1, 10, 100))),
            (Axis.PROXIES, 0.0, tuple(replace(small, proxies=n) for n in proxies)),
            (Axis.VIEWS, 0.0, tuple(replace(few, proxies=500, views=n) for n in views)),
        ]
    return tuple(curves)


def floods(*, quick: bool = False) -> tuple[Flood, ...]:
    """Changes that pour in."""
    if quick:
        return (Flood(seconds=5.0),)
    return (Flood(), Flood(delta=False))


def kept() -> tuple[Case, ...]:
    """The rows whose cost is compared with what it was; a minute in all."""
    few = QUICK_ROUNDS
    return (
        Case(Change.ENDPOINT, 1000, 100, True, few),
        Case(Change.ENDPOINT, 1000, 100, False, few),
        Case(Change.RULE, 1000, 100, True, few),
        Case(Change.SERVICE, 1000, 100, True, few),
        Case(Change.CONNECT, 1000, 100, True, 1),
    )
