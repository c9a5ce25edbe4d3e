"""The files that people get: eksctl's, a Containerfile, and the values that the page on Kubernetes shows."""

import json
import re
import subprocess
import sys
from pathlib import Path, PurePath

import pytest
import yaml
from click.testing import CliRunner

from convoy.cli.main import app
from convoy.errors import BadInput
from convoy.kube import deployed, text
from convoy.kube.image import containerfile
from convoy.kube.options import Options
from convoy.node.launcher import Wants
from convoy.pods.objects import Home, job
from convoy.spec.pods import read_pods
from convoy.spec.yamls import Document
from tests.kube.federations import ROOT, made, said

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()


def test_a_containerfile_adds_a_requirements_file_to_convoys_own_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").write_text("torch\n")
    done = CliRunner().invoke(app, ["kube", "image", "-r", "requirements.txt"])
    assert done.exit_code == 0, done.output
    stages = re.findall(r"^FROM (\S+)", done.output, re.MULTILINE)
    assert stages == ["${CONVOY_IMAGE}", "${BASE_IMAGE}", "${CONVOY_IMAGE}"]
    assert f"ARG CONVOY_IMAGE={Options().image}\n" in done.output


@pytest.mark.parametrize("file", ["/etc/requirements.txt", "../requirements.txt"])
def test_a_requirements_file_from_elsewhere_is_refused(file):
    with pytest.raises(BadInput, match="not in this folder"):
        containerfile(PurePath(file), image="convoy:1", base="python:3.11")


def test_the_values_that_the_page_shows_are_values(tmp_path):
    first, *others = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert ("StatefulSet", "tumours-north", "hospital-1") in made(said(tmp_path, first))
    assert all(made(said(tmp_path, block)) for block in others)


def test_what_up_remembers_reads_back_with_its_options(tmp_path):
    options = said(tmp_path, "namespace: study\nsites: {hospital-1: {gpu: 1}}\nsite: {memory: 64Mi}")
    kept = deployed.Deployed("c", "study", "server-0", 8003, "kit", options.model_dump_json())
    deployed.keep(tmp_path, kept)
    assert deployed.read(tmp_path).chosen() == options
    deployed.forget(tmp_path)
    assert deployed.read(tmp_path) is None


def test_a_file_that_up_did_not_write_is_refused(tmp_path: Path):
    (tmp_path / deployed.FILE).write_text("{}")
    with pytest.raises(BadInput, match="kube up"):
        deployed.read(tmp_path)


CHECKOV = "3.3.30"


@pytest.fixture(scope="module")
def checkov():
    """Checkov in an environment of its own, made once a machine: its pins are not ours."""
    python = Path.home() / ".cache" / "convoy-checkov" / CHECKOV / "bin" / "python"
    whole = python.parent.parent / "whole"
    if not whole.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", python.parent.parent], check=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"checkov=={CHECKOV}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if re.search(r"from versions: none|NewConnectionError|ConnectTimeout|ProxyError", done.stderr):
            pytest.skip(f"pip reaches no index that has checkov: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        whole.touch()

    def check(file):
        """Return how many checks passed, and which did not."""
        command = [
            python,
            "-m",
            "checkov.main",
            "--framework",
            "kubernetes",
            "--skip-download",
            "-o",
            "json",
            "-f",
            file,
        ]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        return found["summary"]["passed"], [
            (one["check_id"], one["resource"]) for one in found["results"]["failed_checks"]
        ]

    return check


def workers(found):
    """Return the Job that a server makes which launches, as it reads its own settings."""
    config = found["ConfigMap", "breast-cancer", "server"]
    said_there = yaml.safe_load(config["data"]["node.yaml"]).get("pods")
    if said_there is None:
        return []
    made_there = read_pods(Document("node.yaml", None, {}), said_there)
    it = job("server-1", Home("server-0", "uid", "10.0.0.1:8005", "server"), made_there, Wants())
    it["metadata"]["namespace"] = config["metadata"]["namespace"]
    return [it]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("more", ["", "kits: volume", "server: {launcher: kubernetes}"])
def test_checkov_finds_nothing_where_the_image_is_pinned(checkov, tmp_path, more):
    values = f"image: registry.example.org/convoy@sha256:{'0' * 64}\nimage_pull_policy: Always\n{more}"
    file, found = tmp_path / "it.yaml", made(said(tmp_path, values))
    file.write_text(text.to_yaml([*found.values(), *workers(found)]))
    passed, failed = checkov(file)
    assert passed > 300
    assert failed == []
