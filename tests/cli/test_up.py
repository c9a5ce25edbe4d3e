"""`convoy up`, `ps`, `logs` and `down` with real nodes."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from convoy.cli import processes
from convoy.node.alive import command_of
from tests.cli.command_line import typed
from tests.federation import free_ports

PROJECT = """\
api_version: 3
name: clinics
participants:
  - {{name: server, type: server, org: a, fed_learn_port: {fed}, admin_port: {admin}}}
  - {{name: site-1, type: client, org: a}}
  - {{name: site-2, type: client, org: b}}
  - {{name: root@a.org, type: admin, org: a, role: project_admin}}
"""


@pytest.fixture
async def here(tmp_path):
    fed, admin = free_ports(2)
    (tmp_path / "project.yml").write_text(PROJECT.format(fed=fed, admin=admin))
    assert (await typed("provision", cwd=tmp_path)).code == 0
    yield tmp_path
    await typed("down", cwd=tmp_path)


def nodes(here):
    return {node["name"]: node for node in json.loads((here / "workspace/clinics/up.json").read_text())["nodes"]}


def environment_of(pid):
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


@pytest.mark.scenario
async def test_a_federation_runs_a_new_job_as_it_is_and_leaves(here):
    (here / "workspace/clinics/prod_00/site-1/local/node.yaml").write_text("data: {patients: nofile.csv}\n")
    held = next(sock for port in range(8004, 9000) if (sock := processes.held(port)))  # as another `up` would
    with held:
        up = await typed("up", cwd=here)
        assert held.getsockname()[1] not in {node["health_port"] for node in nodes(here).values()}
    assert up.out.startswith("warning: site-1 does not have the data patients: /")
    assert up.code == 0, up.err
    await typed("job", "new", "first", cwd=here)
    done = await typed("job", "submit", "first", "--watch", cwd=here)
    assert done.code == 0, done.out + done.err
    assert done.out.count("2 took part") == 5
    assert "round 1: loss" in (await typed("job", "logs", "first", cwd=here)).out
    assert (await typed("job", "fetch", "first", "-o", "out", cwd=here)).code == 0
    assert (here / "out" / "model.safetensors").exists()
    again = await typed("up", cwd=here)
    assert again.out.startswith("already running: server (process ")
    pids = [node["pid"] for node in nodes(here).values()]
    down = await typed("down", cwd=here)
    assert down.out.splitlines() == ["server: stopped", "site-1: stopped", "site-2: stopped"]
    assert not any(command_of(pid) for pid in pids)


@pytest.mark.scenario
async def test_a_node_that_died_is_named_and_started_again(here, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    await typed("up", cwd=here)
    before = nodes(here)
    assert "OMP_WAIT_POLICY=PASSIVE" in environment_of(before["site-1"]["pid"])
    os.kill(before["site-1"]["pid"], signal.SIGKILL)
    shown = await typed("ps", "--json", cwd=here)
    states = {node["name"]: node["state"] for node in json.loads(shown.out)["nodes"]}
    assert states == {"server": "ready", "site-1": "died: convoy logs site-1", "site-2": "ready"}
    assert (await typed("up", cwd=here)).code == 0
    after = nodes(here)
    assert after["server"]["pid"] == before["server"]["pid"]
    assert after["site-1"]["pid"] != before["site-1"]["pid"]
    logs = await typed("logs", "site-1", cwd=here)
    assert "registered" in logs.out
    said = [json.loads(line) for line in (await typed("logs", "site-1", "--json", cwd=here)).out.splitlines()]
    assert [line["text"] for line in said] == logs.out.splitlines()
    assert {line["node"] for line in said} == {"site-1"}
    assert (await typed("logs", "mars", cwd=here)).code == 1


@pytest.mark.scenario
async def test_up_returns_when_the_sites_that_ran_before_have_registered_with_the_new_server_too(here):
    await typed("up", cwd=here)
    os.kill(nodes(here)["server"]["pid"], signal.SIGKILL)
    said = await typed("up", "--json", cwd=here)
    assert said.code == 0, said.err
    shown = json.loads((await typed("ps", "--json", cwd=here)).out)
    assert {node["state"] for node in shown["nodes"]} == {"ready"}


@pytest.mark.scenario
async def test_a_node_that_was_stopped_stays_so_where_one_started_by_hand_finds_its_port_taken(here):
    await typed("up", cwd=here)
    site = here / "workspace/clinics/prod_00/site-2"
    os.kill(nodes(here)["site-2"]["pid"], signal.SIGTERM)
    assert processes.ended(nodes(here)["site-2"]["pid"], within_s=30)
    said = await typed("run", site, "--health-port", nodes(here)["server"]["health_port"], cwd=here)
    assert said.code == 4
    shown = json.loads((await typed("ps", "--json", cwd=here)).out)
    assert {node["name"]: node["state"] for node in shown["nodes"]}["site-2"] == "stopped"


@pytest.mark.scenario
async def test_a_node_that_dies_at_its_start_takes_the_others_with_it_and_says_why(here):
    with (here / "workspace/clinics/prod_00/site-2/local/node.yaml").open("a") as file:
        file.write("workspace: /dev/null/work\n")
    said = await typed("up", cwd=here)
    assert said.code == 1
    assert said.err.startswith("error: site-2 died at its start\n")
    assert "/dev/null/work" in said.err
    assert (await typed("ps", cwd=here)).code == 1
    assert "/dev/null/work" in (await typed("logs", "site-2", cwd=here)).out


@pytest.mark.parametrize("name", ["node", "policy"])
async def test_a_local_file_that_cannot_be_read_is_bad_input_and_nothing_starts(here, name):
    with (here / f"workspace/clinics/prod_00/site-2/local/{name}.yaml").open("a") as file:
        file.write("helth_port: 3\n")
    said = await typed("up", cwd=here)
    assert said.code == 4
    assert f"local/{name}.yaml" in said.err
    assert 'unknown key "helth_port"' in said.err
    assert not (here / "workspace/clinics/prod_00/server/work").exists()


async def test_a_port_that_is_taken_is_named_with_its_process(here):
    admin = int((here / "project.yml").read_text().split("admin_port: ")[1].split("}")[0])
    with socket.create_server(("127.0.0.1", admin)):
        said = await typed("up", cwd=here)
    assert said.code == 4
    assert f"port {admin}, on which the server would listen for people, is in use" in said.err
    assert f"process {os.getpid()} (" in said.err


def test_a_port_that_is_held_is_no_one_elses_but_a_process_of_ours_listens_on_it():
    with processes.held(free_ports(1)[0]) as held:
        port = held.getsockname()[1]
        assert processes.held(port) is None
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            assert processes.held(port) is None


async def test_a_kit_that_is_missing_is_named(here):
    (here / "workspace/clinics/prod_00/site-2").rename(here / "elsewhere")
    said = await typed("up", cwd=here)
    assert said.code == 4
    assert said.err.startswith("error: the kit of site-2 is missing")


async def test_nothing_provisioned_and_nothing_started_are_told(tmp_path):
    assert "no project is provisioned here" in (await typed("up", cwd=tmp_path)).err
    for verb in (["ps"], ["down"], ["logs", "server"]):
        assert "no nodes were started here" in (await typed(*verb, cwd=tmp_path)).err


class Kept:
    """`convoy up --keep` as it runs."""

    def __init__(self, process):
        self.process = process

    @classmethod
    async def start(cls, here, *words):
        command = [sys.executable, "-m", "convoy.cli.main", "up", "--keep", *words]
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        return cls(await asyncio.create_subprocess_exec(*command, cwd=here, start_new_session=True, **pipes))

    async def until(self, wanted):
        while (line := (await self.process.stdout.readline()).decode()) and not line.startswith(wanted):
            continue
        assert line, (await self.process.stderr.read()).decode()

    async def end(self):
        out, err = await self.process.communicate()
        return self.process.returncode, out.decode(), err.decode()


@pytest.mark.scenario
async def test_up_keep_starts_again_what_dies_and_stops_all_at_a_signal(here):
    kept = await Kept.start(here)
    await kept.until("nodes that die are started again; Ctrl-C stops all of them")
    for name in ("server", "site-1", "server"):
        before = nodes(here)[name]["pid"]
        os.kill(before, signal.SIGKILL)
        await kept.until(f"{name}: died")
        await kept.until(f"{name}: was restarted")
        assert nodes(here)[name]["pid"] != before
    assert (await typed("status", cwd=here)).code == 0
    pids = [node["pid"] for node in nodes(here).values()]
    kept.process.send_signal(signal.SIGTERM)
    code, out, err = await kept.end()
    assert (code, out.splitlines(), err) == (0, ["server: stopped", "site-1: stopped", "site-2: stopped"], "")
    assert not any(command_of(pid) for pid in pids)
    assert not (here / "workspace/clinics/up.json").exists()


@pytest.mark.scenario
async def test_down_ends_up_keep_too(here):
    kept = await Kept.start(here, "--json")
    await kept.until('{"prod": ')
    assert (await typed("down", cwd=here)).code == 0
    code, out, err = await kept.end()
    assert (code, err) == (0, "")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["stopped"] * 3


@pytest.mark.scenario
async def test_a_log_that_is_full_is_put_aside_while_the_node_runs(here):
    work = here / "workspace/clinics/prod_00/site-1/work"
    work.mkdir()
    with (work / "node.log").open("wb") as log:
        log.truncate(17 << 20)
    up = await typed("up", cwd=here)
    assert up.code == 0, up.err
    assert (work / "node.log.1").stat().st_size > 17 << 20
    assert (work / "node.log").stat().st_size < 1 << 20
    down = await typed("down", cwd=here)
    assert down.code == 0
    assert "site leaves" in (work / "node.log").read_text()
