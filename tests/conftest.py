"""Which tests share a worker, and which begin: those of one file; all on the real Kubernetes, which take longest."""

from pathlib import Path

import pytest

FIRST = ("kube", "scenarios", "e2e", "fuzz")  # folders with tests that take long: the short ones fill what is left


def _room(item: pytest.Item) -> int:
    if item.get_closest_marker("kube"):
        return 0
    folder = item.path.parent.name
    return 1 + (FIRST.index(folder) if folder in FIRST[1:] else len(FIRST))


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give pytest-xdist its groups (`--dist loadgroup`), the longest first; without it the order alone changes."""
    items.sort(key=_room)
    for item in items:
        if item.get_closest_marker("kube"):
            item.add_marker(pytest.mark.xdist_group("kube"))
        elif item.path.parent.name != "fuzz":
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(Path(__file__).parent))))
