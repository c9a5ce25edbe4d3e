"""Commands whose server is in a cluster: --kube, `convoy kube console`, and a port through an API server."""

import json

import pytest

from convoy.cli import identity
from convoy.errors import BadInput
from convoy.kube import deployed
from convoy.kube.options import Options
from tests.admin import rest_api as api
from tests.cli.command_line import typed
from tests.kube.api_server import application, serving


def remember(rest, admin="root@a.org"):
    kit = str(rest.prod / admin) if admin else ""
    said = deployed.Deployed("made-up", "clinics", "server-0", rest.port, kit, Options().model_dump_json())
    deployed.keep(rest.prod.parent, said)


def run_here(rest):
    """Leave word, as `convoy up` does, that the federation runs here; nothing does."""
    said = {"prod": str(rest.prod), "admin": str(rest.prod / "boss@a.org"), "server": "localhost:1", "nodes": []}
    (rest.prod.parent / identity.RUNNING).write_text(json.dumps(said))


@pytest.fixture
async def type_it(rest, tmp_path):
    """Type a command beside a cluster in which the federation's server answers."""
    async with serving(tmp_path, application()) as config:

        async def run(*words, stdin="", **env):
            return await typed(*words, cwd=tmp_path, stdin=stdin, env={"KUBECONFIG": str(config), **env})

        yield run


async def test_kube_is_the_server_in_the_cluster_whatever_runs_here(type_it, rest):
    remember(rest)
    run_here(rest)
    there = await type_it("status", "--kube", "--json", CONVOY_SERVER="localhost:1")
    assert there.code == 0, there.err
    assert json.loads(there.out)["project"] == "clinics"
    assert (await type_it("status", "--json")).code == 2, "nobody answers here"


async def test_kube_goes_with_whatever_kit_is_named(type_it, rest):
    remember(rest)
    said = await type_it("console", "--kube", "--kit", rest.prod / "look@a.org", stdin="bye\n")
    assert said.code == 0, said.err
    assert "look@a.org of a, member" in said.out


async def test_convoy_kube_console_is_the_console_of_this_projects_federation(type_it, rest, tmp_path):
    remember(rest)
    (tmp_path / "project.yml").write_text(api.project_yml(8002, 8003))
    said = await type_it("kube", "console", stdin="list_jobs\n")
    assert (said.code, said.err) == (0, "")
    assert "root@a.org of a, project_admin" in said.out
    assert "no jobs yet" in said.out
    said = await type_it("kube", "console", stdin="bye\n", CONVOY_KIT=str(rest.prod / "lead@a.org"))
    assert "lead@a.org of a, lead" in said.out


async def test_where_nothing_is_remembered_the_fix_is_said(type_it, rest, tmp_path):
    (tmp_path / "project.yml").write_text(api.project_yml(8002, 8003))
    commands = (["job", "list", "--kube"], ["kube", "console"], ["status", "--kube", "--kit", rest.prod / "boss@a.org"])
    for words in commands:
        said = await type_it(*words)
        assert said.code == 4
        assert "kube.json" in said.err
        assert "fix: convoy kube up" in said.err


def test_two_ways_to_a_server_are_refused(tmp_path):
    with pytest.raises(BadInput, match="--server and --kube"):
        identity.find("", "there:1", kube=True, here=tmp_path)


def test_of_two_federations_in_clusters_one_is_to_be_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CONVOY_KIT", raising=False)
    rest = api.make(tmp_path)
    remember(rest)
    other = rest.prod.parent.parent / "other"
    other.mkdir()
    (other / identity.IN_CLUSTER).write_text((rest.prod.parent / identity.IN_CLUSTER).read_text())
    with pytest.raises(BadInput, match="more than one federation"):
        identity.find("", "", kube=True, here=tmp_path)
    assert identity.find(str(rest.prod / "boss@a.org"), "", kube=True, here=tmp_path).cluster == rest.prod.parent


def test_without_a_project_admin_a_kit_is_to_be_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CONVOY_KIT", raising=False)
    rest = api.make(tmp_path)
    remember(rest, admin="")
    with pytest.raises(BadInput, match="no project_admin"):
        identity.find("", "", kube=True, here=tmp_path)
