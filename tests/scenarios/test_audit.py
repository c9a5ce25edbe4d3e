"""The audit trail of a real federation, verified at a site that does not trust its server."""

import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from contextlib import closing

import pytest

from convoy.spec.kit import read_kit
from convoy.trust import audit
from convoy.trust.authority import Authority
from tests.federation import ADMIN
from tests.scenarios.conftest import overheard, put_job, readyz, write_job

pytestmark = pytest.mark.scenario


@pytest.fixture
def convoy(tmp_path):
    """Type a command; returns its exit code and all that it said."""

    def run(*words):
        command = [sys.executable, "-m", "convoy.cli.main", "audit", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def back(federation):
    """Stop the server, which signs, and start it; return when the sites are there again."""
    assert federation.server.stop() == 0
    federation.server.start()
    for node in federation.nodes.values():
        assert readyz(node, "?within=30")[0] == 200


def said_by(file):
    """Return the records of a saved trail as words."""
    entries = [audit.read(line, where="a line") for line in file.read_bytes().splitlines()]
    return [(it.actor, it.action, it.object, it.outcome) for it in entries if isinstance(it, audit.Record)]


def test_a_site_finds_whatever_the_servers_owner_changes(gated, convoy, tmp_path):
    federation, gates = gated()
    site, trail = federation.nodes["site-1"].kit, tmp_path / "trail.jsonl"
    with federation.session() as session:
        job = session.submit(write_job(tmp_path / "job", gate=1)).id
        for gate in gates.values():
            gate.wait()
        session.abort(job)
    back(federation)
    with federation.session() as session:  # what a site hears, it hears in order: so the checkpoint came before the end
        session.wait(session.submit(write_job(tmp_path / "other", rounds=1)).id)
    save = ("save", trail, "--kit", federation.prod / ADMIN, "--server", "localhost")
    assert convoy(*save)[0] == 0
    ada, said = f"admin:{ADMIN}", said_by(trail)
    assert said[0][:3] == ("server", "start", "")
    assert (ada, "submit", f"job:{job}", "accepted: job") in said
    assert (ada, "abort", f"job:{job}", "done") in said
    assert (ada, "login", "from:127.0.0.1", "done") in said
    code, words = convoy("verify", trail, "--kit", site)
    assert code == 0, words
    assert "are complete and in order" in words
    assert "witness.jsonl" in words

    submitted = said.index((ada, "submit", f"job:{job}", "accepted: job"))
    with closing(sqlite3.connect(federation.server.kit / "work" / "convoy.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE audit SET actor = 'admin:eve@example.org' WHERE seq = ?", (submitted,))
    assert convoy(*save)[0] == 0
    code, words = convoy("verify", trail, "--kit", site)
    assert code == 1
    assert f"record {submitted} was changed" in words

    assert federation.server.stop() == 0
    forge(federation.server.kit / "work" / "convoy.sqlite")
    federation.server.start()
    assert convoy(*save)[0] == 0
    assert convoy("verify", trail, "--kit", federation.prod / ADMIN)[0] == 0  # it looks whole to who kept nothing
    code, words = convoy("verify", trail, "--kit", site)
    assert code == 1
    assert "not what the server signed" in words


FORGER = """
import numpy as np
import convoy
from convoy.store.arrays import hand_over
from convoy.wire import convoy_pb2 as pb
from convoy.worker import tasks

def initial():
    return {"w": np.zeros(4, np.float32)}

def train(task):
    if task.site == "site-1":
        return convoy.Reply({"w": task.model["w"] + 1})
    here = tasks.session()  # round the library's own checks
    digest, whole = hand_over(here._files.out, {"w": np.full(4, np.nan, np.float32)})
    here.open = None
    answer = pb.Answer(question=task.question, digest=digest, weight=1.0)
    here._send(pb.WorkerUp(answer=answer, wholes={digest: whole}))
"""


def test_what_sites_were_refused_is_in_the_trail(started, tmp_path):
    federation = started()
    site = federation.nodes["site-2"]
    with federation.session() as session:
        spec = {"trainer": "train.py:train", "with_": {"rounds": 1, "min_sites": 1}}
        job = session.submit(put_job(tmp_path / "forged", {"train.py": FORGER}, **spec)).id
        assert session.wait(job).job.state == "completed"
        site.stop()
        session.enable("site-2", enabled=False)
        with overheard(site) as until:
            until("is disabled")
        session.enable("site-2")  # when it answers, what was noted before is durable
        said = [(it.actor, it.action, it.object, it.outcome) for it in session.audit() if isinstance(it, audit.Record)]
    (refused,) = [words for words in said if words[1] == "update"]
    assert refused[:3] == ("site:site-2", "update", f"task:{job}/1.0")
    assert refused[3].startswith("refused: ")
    assert "'w' of the update is not finite" in refused[3]
    assert (f"admin:{ADMIN}", "disable", "site:site-2", "done") in said
    joined = {words for words in said if words[1] == "join"}
    assert {words[0] for words in joined} == {"site:site-2"}
    assert all("is disabled" in words[3] for words in joined)


def test_strangers_who_do_not_get_through_the_door_are_in_the_trail(started, tmp_path):
    federation = started()
    kit = federation.nodes["site-1"].kit
    foreign = Authority.create("other", tmp_path, now=time.time())
    key, cert = foreign.issue("site", "site-1", now=time.time())
    (tmp_path / "pair.pem").write_bytes(key + cert)
    for pair in ((), (tmp_path / "pair.pem",)):
        context = ssl.create_default_context(cafile=str(kit / "startup" / "root.crt"))
        for file in pair:
            context.load_cert_chain(file)
        with (
            socket.create_connection(("localhost", read_kit(kit).fed_port), timeout=10) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as line,
            pytest.raises(OSError, match=r"(?i)certificate|unknown ca"),
        ):
            line.recv(1)
    with federation.session() as session:
        session.enable("site-2")  # when it answers, what was noted before is durable
        said = [it.outcome for it in session.audit() if isinstance(it, audit.Record) and it.actor == "stranger"]
    assert len(said) == 2
    assert "shows no certificate" in said[0]
    assert "does not belong to this project" in said[1]


def forge(file):
    """Chain the changed records anew and remove the checkpoints, as the owner of a server can."""
    with closing(sqlite3.connect(file)) as ledger, ledger:
        last = None
        for at, actor, action, thing, outcome in ledger.execute(
            "SELECT at, actor, action, object, outcome FROM audit ORDER BY seq"
        ).fetchall():
            last = audit.following(
                last, project="bench", at=at, actor=actor, action=action, object=thing, outcome=outcome
            )
            ledger.execute("UPDATE audit SET prev = ?, hash = ? WHERE seq = ?", (last.prev, last.hash, last.seq))
        ledger.execute("DELETE FROM checkpoints")
