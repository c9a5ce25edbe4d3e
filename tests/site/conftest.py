"""A project with a site, whose policy a test may change."""

import time

import pytest

from convoy.provision.kits import provision
from convoy.spec.kit import read_kit
from convoy.spec.project import read_project

DAY_S = 86400
PROJECT = """
api_version: 3
name: clinics
participants:
  - {name: server, type: server, org: a}
  - {name: site-1, type: client, org: a}
  - {name: root@x.org, type: admin, org: x, role: project_admin}
  - {name: lead@a.org, type: admin, org: a, role: lead}
  - {name: lead@b.org, type: admin, org: b, role: lead}
  - {name: look@a.org, type: admin, org: a, role: member}
"""


@pytest.fixture(scope="module")
def prod(tmp_path_factory):
    project, _ = read_project(PROJECT, "project.yml")
    return provision(project, tmp_path_factory.mktemp("w"), now=time.time() - 40 * DAY_S, offline=True)


@pytest.fixture
def site(prod):
    kit = read_kit(prod / "site-1")
    before = (kit.local / "policy.yaml").read_text()
    yield kit
    (kit.local / "policy.yaml").write_text(before)
    (kit.local / "approved.yaml").unlink(missing_ok=True)
