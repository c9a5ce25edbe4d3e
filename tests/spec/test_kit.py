"""A kit folder: read as provisioned, refused as soon as something is missing, odd, or open to others."""

import os
from pathlib import Path

import pytest

from convoy.errors import BadInput
from convoy.spec.kit import read_kit

SITE = """\
project: p
kind: site
name: site-1
org: o
server: {host: fl.example.org, fed_port: 8002, admin_port: 8003}
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    startup = tmp_path / "startup"
    startup.mkdir()
    (startup / "convoy.yaml").write_text(SITE)
    for name in ("root.crt", "node.crt", "node.key", "federation.json"):
        (startup / name).touch(mode=0o600)
    return tmp_path


def test_a_kit_knows_who_it_is_and_where_its_files_are(folder):
    kit = read_kit(folder)
    assert (kit.project, kit.kind, kit.name, kit.org) == ("p", "site", "site-1", "o")
    assert (kit.host, kit.fed_port, kit.admin_port) == ("fl.example.org", 8002, 8003)
    assert kit.work == folder / "work"
    assert kit.key_file == folder / "startup" / "node.key"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_may_read_is_refused_with_the_command_that_helps(folder, mode):
    key = folder / "startup" / "node.key"
    key.chmod(mode)
    with pytest.raises(BadInput) as caught:
        read_kit(folder)
    assert f"{mode:04o}" in caught.value.why
    assert caught.value.fix == f"chmod 600 {key}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize(("mode", "fine"), [(0o440, True), (0o640, True), (0o444, False), (0o460, False)])
def test_a_secret_that_is_anothers_may_be_read_by_our_group_as_kubernetes_mounts_it(folder, mode, fine):
    key = folder / "startup" / "node.key"
    key.chmod(mode)
    os.chown(key, 65532, -1)
    if fine:
        read_kit(folder)
        return
    with pytest.raises(BadInput, match="readable for other users"):
        read_kit(folder)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_for_its_owner_alone_is_taken(folder, mode):
    (folder / "startup" / "node.key").chmod(mode)
    assert read_kit(folder).name == "site-1"


@pytest.mark.parametrize("name", ["root.crt", "node.crt", "node.key", "federation.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / "startup" / name).unlink()
    with pytest.raises(BadInput, match=name):
        read_kit(folder)


def test_a_folder_that_is_no_kit_is_told_what_one_is(tmp_path):
    with pytest.raises(BadInput) as caught:
        read_kit(tmp_path)
    assert "prod_00" in caught.value.fix


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("kind: site", "kind: client", "wanted server, site or admin"),
        ("name: site-1", "name:", '"name" is empty'),
        ("fed_port: 8002", "fed_port: 0", "wanted a port"),
        ("fed_port: 8002", "fed_port: true", "wanted a port"),
        ("org: o", "orgs: o", "unknown key"),
        ("server: {host", "hosts: {host", "server"),
    ],
)
def test_a_bad_description_is_refused_with_its_line(folder, old, new, word):
    (folder / "startup" / "convoy.yaml").write_text(SITE.replace(old, new))
    with pytest.raises(BadInput, match=word) as caught:
        read_kit(folder)
    assert "convoy.yaml:" in caught.value.where
