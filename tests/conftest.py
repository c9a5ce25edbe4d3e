"""The order of the tests: the long ones begin, the real Kubernetes first, and short ones fill what is left."""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from convoy.node import cores
from convoy.node.isolation import Walls, probe
from convoy.spec.settings import Grants

settings.register_profile("convoy", deadline=None)  # speed is a benchmark: a busy machine fails no test
settings.load_profile("convoy")

os.environ |= cores.shared()  # tests share the cores with other tests: before any of them loads OpenMP

LONG = ("scenarios", "e2e", "fuzz")  # folders


def _place(item: pytest.Item) -> int:
    if item.get_closest_marker("kube"):
        return 0
    folder = item.path.parent.name
    return 1 + (LONG.index(folder) if folder in LONG else len(LONG))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into their order; `--dist loadfile` gives out whole files in it, each to one worker."""
    items.sort(key=_place)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage while tests are collected, which takes 11 s of each worker, nor later in what is there."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def walls(tmp_path) -> Walls:
    """How a node in `tmp_path` isolates its workers on this machine."""
    return Walls.build(probe(tmp_path), Grants(), [tmp_path])
