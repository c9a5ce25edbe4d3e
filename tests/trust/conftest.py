"""A root, its people, and a moment in time for the tests of trust."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from convoy.trust.authority import Authority

NOW = 1_800_000_000.0


@dataclass(frozen=True)
class World:
    """One project's root and one identity of each kind, as (key PEM, certificate PEM)."""

    root: Authority
    server: tuple[bytes, bytes]
    site: tuple[bytes, bytes]
    admin: tuple[bytes, bytes]


def make_world(folder: Path, project: str = "hospitals", now: float = NOW) -> World:
    """Return a fresh project."""
    root = Authority.create(project, folder, now=now)
    return World(
        root,
        root.issue("server", "fl.example.org", hosts=["10.0.0.5"], now=now),
        root.issue("site", "site-1", now=now),
        root.issue("admin", "ada@example.org", now=now),
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory) -> World:
    """Another project that calls itself by the same name."""
    return make_world(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="session")
def today(tmp_path_factory) -> World:
    """A project as of this moment: TLS looks at the machine's own clock."""
    return make_world(tmp_path_factory.mktemp("today"), now=time.time())


@pytest.fixture(scope="session")
def now() -> float:
    return NOW
