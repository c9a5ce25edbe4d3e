"""A small project, its workspace and a moment in time for the tests of provisioning."""

from collections.abc import Callable
from pathlib import Path

import pytest

from convoy.provision import kits
from convoy.spec.project import read_project

NOW = 1_800_000_000.0

SMALL = """\
api_version: 3
name: hospitals
participants:
  - {name: server, type: server, org: o, host_names: [fl.example.org]}
  - {name: site-1, type: client, org: o}
  - {name: site-2, type: client, org: p}
  - {name: ada@example.org, type: admin, org: o, role: project_admin}
"""

Provision = Callable[..., Path]


@pytest.fixture
def now() -> float:
    return NOW


@pytest.fixture
def small() -> str:
    return SMALL


@pytest.fixture
def workspace(tmp_path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def provision(workspace) -> Provision:
    """Provision a project.yml's text into the workspace, by default with ready keys; returns the prod_NN."""

    def run(text: str = SMALL, now: float = NOW, *, offline: bool = True) -> Path:
        return kits.provision(read_project(text, "project.yml")[0], workspace, now=now, offline=offline)

    return run
