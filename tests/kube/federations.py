"""Federations and their objects, for the tests of `kube`."""

from pathlib import Path

from convoy.kube import options
from convoy.kube.contents import Contents
from convoy.kube.objects import objects
from convoy.spec.project import read_project

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "breast_cancer" / "project.yml"
KITS = {
    "server": Contents({}, {"root.crt": b"root", "issuing.key": b"secret", "invites.json": b"[]"}),
    **{
        f"hospital-{number}": Contents({}, {"root.crt": b"root", "join.token": f"token-{number}".encode()})
        for number in (1, 2, 3)
    },
}


def demo():
    return read_project(DEMO.read_text(), "project.yml")[0]


def said(tmp_path, text):
    """Return the options that a values.yml with this text says."""
    file = tmp_path / "values.yml"
    file.write_text(text)
    return options.read(file)


def made(chosen=None, *, kits=None, project=None):
    """Return a federation's objects by (kind, namespace, name)."""
    found = objects(project or demo(), chosen or options.read(None), KITS if kits is None else kits)
    by_key = {(it["kind"], it["metadata"].get("namespace", ""), it["metadata"]["name"]): it for it in found}
    assert len(by_key) == len(found), "two objects are one"
    return by_key


def of(kind, by_key):
    return [it for key, it in by_key.items() if key[0] == kind]
