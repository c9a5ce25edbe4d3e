"""`convoy provision` as a person meets it: a sample first, then kits, then what went wrong."""

import json
from pathlib import Path

import pytest

from convoy.cli.provision import provision
from convoy.errors import BadInput


@pytest.fixture
def project_file(tmp_path) -> Path:
    return tmp_path / "project.yml"


def test_without_a_project_yml_a_sample_is_written_and_said(project_file, workspace, now):
    done = provision(project_file, workspace, now=now)
    assert done.folder is None
    assert "Wrote a sample" in done.lines()[0]
    assert done.to_json()["sample_written"] is True
    assert not workspace.exists()
    assert project_file.read_text().startswith("# A federation")


def test_a_file_that_was_named_and_is_not_there_is_bad_input_and_no_sample_is_written(project_file, workspace, now):
    with pytest.raises(BadInput, match=r"project\.yml: no such file"):
        provision(project_file, workspace, now=now, sample=False)
    assert not project_file.exists()


def test_the_sample_provisions_as_it_is(project_file, workspace, now):
    provision(project_file, workspace, now=now)
    done = provision(project_file, workspace, now=now)
    assert done.folder == workspace / "example_project" / "prod_00"
    assert sorted(path.name for path in done.folder.iterdir()) == ["admin@nvidia.com", "server", "site-1", "site-2"]
    assert any("kits for 1 server, 2 sites and 1 admin" in line for line in done.lines())
    assert json.loads(json.dumps(done.to_json()))["sites"] == ["site-1", "site-2"]


def test_what_is_ignored_is_named_with_its_line(project_file, workspace, small, now):
    project_file.write_text(small + "builders: []\n")
    assert f"ignored: {project_file}:8:1: builders" in provision(project_file, workspace, now=now).lines()[0]


def test_a_mistake_in_the_file_makes_nothing(project_file, workspace, small, now):
    project_file.write_text(small + "  - {name: site-1, type: client, org: o}\n")
    with pytest.raises(BadInput, match=r"project\.yml:8:6: a second participant"):
        provision(project_file, workspace, now=now)
    assert not workspace.exists()


def test_a_sample_that_cannot_be_written_is_named(tmp_path, workspace, now):
    with pytest.raises(BadInput, match="a sample project file cannot be written here"):
        provision(tmp_path / "gone" / "project.yml", workspace, now=now)


def test_a_workspace_that_cannot_be_written_is_named(project_file, workspace, small, now):
    project_file.write_text(small)
    workspace.write_text("a file")
    with pytest.raises(BadInput, match="cannot be written") as caught:
        provision(project_file, workspace, now=now)
    assert "Not a directory" in caught.value.why
