"""Leaving and coming back: SIGTERM drains, a restart goes on, a second process of a site is turned away."""

import asyncio
import shutil
import socket
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from convoy.admin.client import connect
from convoy.errors import Unreachable
from convoy.spec.kit import read_kit
from tests.federation import ADMIN, free_ports
from tests.scenarios.conftest import adding, ended, overheard, put_job, readyz, took_part, write_job

pytestmark = pytest.mark.scenario


def models(session, job):
    """Return the rounds of a job that has to complete."""
    detail = session.wait(job)
    assert detail.job.state == "completed", detail.job.cause
    return [(done.round, done.model, took_part(done)) for done in detail.rounds]


def leave(federation, who, *, restart):
    """Ask a node to leave, as an admin does."""

    async def ask():
        async with connect(federation.prod / ADMIN, server="localhost") as client:
            await client.leave(who, restart=restart)

    asyncio.run(ask())


@pytest.fixture(scope="module")
def undisturbed(two, tmp_path_factory):
    """The rounds of the same job when nothing happens."""
    with two.session() as session:
        return models(session, session.submit(write_job(tmp_path_factory.mktemp("calm"), size=300_000)).id)


@pytest.mark.parametrize("who", ["server", "site-1"])
def test_a_node_told_to_leave_in_mid_training_leaves_nothing_and_goes_on_when_it_is_back(
    who, pair, undisturbed, tmp_path
):
    federation, gates = pair, pair.gates
    node = federation.server if who == "server" else federation.nodes[who]
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", size=300_000, gate=2)).id
        for gate in gates.values():
            gate.wait()
        children = node.children()
        assert len(children) == 1
        began = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - began < 30
        assert ended(children, within_s=0)
        node.start()
        if who != "server":
            gates[who].wait()
        for gate in gates.values():
            gate.open()
        assert models(session, job) == undisturbed


def test_a_site_whose_trainers_ignore_every_signal_leaves_in_time_and_takes_them_along(gated, tmp_path):
    federation, gates = gated(settings="memory: 16Gi")
    train = adding("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ngate(task)")
    with federation.session() as session:
        for number in range(3):
            session.submit(put_job(tmp_path / f"job{number}", {"train.py": train}, with_={"min_sites": 2}))
            for gate in gates.values():
                gate.wait()
        first = federation.nodes["site-1"]
        children = first.children()
        assert len(children) == 3
        began = time.monotonic()
        assert first.stop() == 0
        assert time.monotonic() - began < 20  # 30 s are what they have
        assert ended(children, within_s=0)


def test_a_server_told_to_leave_while_a_job_begins_leaves_in_time(pair, tmp_path):
    federation = pair
    for number in range(3):
        with federation.session() as session:
            job = session.submit(put_job(tmp_path / f"job{number}", {"train.py": adding()}, with_={"rounds": 2})).id
        assert federation.server.stop() == 0
        federation.server.start()
        with federation.session() as session:
            assert session.wait(job).job.state == "completed"


@pytest.mark.parametrize("who", ["server", "site-1"])
def test_a_restart_asked_for_by_an_admin_starts_the_same_node_anew(who, pair, undisturbed, tmp_path):
    federation, gates = pair, pair.gates
    node = federation.server if who == "server" else federation.nodes[who]
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", size=300_000, gate=2)).id
        for gate in gates.values():
            gate.wait()
        children = node.children()
        before = session.status().started_at
        leave(federation, who, restart=True)
        assert ended(children, within_s=10)
        if who == "server":
            for _ in session.watch(job):  # the stream breaks, and goes on with the new one
                with suppress(Unreachable):  # it may say a last word when it takes questions no more
                    if session.status().started_at > before:
                        break
        else:
            gates[who].wait()
        assert node.process.poll() is None
        for gate in gates.values():
            gate.open()
        assert models(session, job) == undisturbed


def test_a_node_stopped_by_an_admin_ends_with_success(started):
    federation = started(sites=1)
    for who, node in (("site-1", federation.nodes["site-1"]), ("server", federation.server)):
        leave(federation, who, restart=False)
        assert node.process.wait(20) == 0


def elsewhere(node, folder):
    """Return a second process with a copy of a node's kit."""
    shutil.copytree(node.kit / "startup", folder / "startup")
    (folder / "local").mkdir()
    for file in (node.kit / "local").iterdir():
        (folder / "local" / file.name).symlink_to(file)
    return replace(node, kit=folder, health_port=free_ports(1)[0], process=None)


def test_a_second_process_in_the_same_folder_is_turned_away_at_once(pair, tmp_path):
    federation, gates = pair, pair.gates
    second = replace(federation.nodes["site-1"], health_port=free_ports(1)[0], process=None)
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", gate=2)).id
        for gate in gates.values():
            gate.wait()
        with pytest.raises(RuntimeError, match="another process uses"):
            second.start()
        assert second.process.wait() == 4
        assert (second.kit / "work" / "node.pid").read_text() == f"{federation.nodes['site-1'].pid}\n"
        for gate in gates.values():
            gate.open()
        assert all(took == ["site-1", "site-2"] for _, _, took in models(session, job)[1:])


def test_a_copy_of_a_site_disturbs_nothing_and_takes_its_place_when_it_is_gone(gated, tmp_path):
    federation, gates = gated()
    first = federation.nodes["site-1"]
    copy = elsewhere(first, tmp_path / "site-1")
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", gate=2)).id
        for gate in gates.values():
            gate.wait()
        with overheard(copy) as until:
            until("not connected")
            status, why = readyz(copy)
            assert (status, readyz(first)[0]) == (503, 200)
            assert "another process of site-1 is connected" in why
            first.kill()
            until("registered")
            gates["site-1"].wait()
            for gate in gates.values():
                gate.open()
            assert all(took == ["site-1", "site-2"] for _, _, took in models(session, job)[1:])


def test_a_site_is_ready_while_it_is_registered_and_says_what_it_waits_for(started):
    federation = started(sites=1)
    site = federation.nodes["site-1"]
    site.stop()
    federation.server.stop()
    with overheard(site) as until:
        until("not connected")
        assert readyz(site)[0] == 503
        assert readyz(site, "?within=0.01")[0] == readyz(site, "?within=nan")[0] == readyz(site, "?within=x")[0] == 503
        federation.server.start()
        assert readyz(site, "?within=30") == (200, "ready\n")
        until("registered")
        assert readyz(site) == readyz(federation.server, "?within=1") == (200, "ready\n")
        federation.server.kill()
        until("not connected")
        status, why = readyz(site)
        assert status == 503
        assert "the connection to the server was lost" in why


@pytest.mark.parametrize("door", ["health", "people", "sites"])
def test_a_node_whose_port_is_taken_says_which_and_leaves(door, pair):
    pair.server.stop()
    kit = read_kit(pair.server.kit)
    port = {"health": pair.server.health_port, "people": kit.admin_port, "sites": kit.fed_port}[door]
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the server's last connections may linger
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with pytest.raises(RuntimeError, match=f"port {port} on .* cannot be opened") as died:
            pair.server.start()
        assert "Traceback" not in str(died.value)
        assert pair.server.process.wait() == 4
    pair.server.start()
