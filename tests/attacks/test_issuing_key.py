"""The issuing key is in one process that runs no foreign code and reads nothing foreign: never in the server's."""

import asyncio
import base64
import os
import signal
import subprocess
from pathlib import Path

import pytest

from convoy.cli import joining as words
from convoy.cli.connecting import How
from convoy.cli.joining import Place
from convoy.spec.kit import read_kit
from convoy.trust import keys
from tests.attacks.test_authority import enrolled, invited
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import adding, ended, put_job
from tests.scenarios.test_drain import leave
from tests.scenarios.test_trust import joined, renewed

pytestmark = pytest.mark.scenario
PIECE = 8 << 20


def forms(pem: bytes) -> dict[str, bytes]:
    """Return what a private key looks like: its number either way round, its DER, each line of its PEM."""
    key = keys.from_pem(pem)  # certificates may follow it in the file
    number, lines = key.private_numbers().private_value, keys.to_pem(key).decode().splitlines()[1:-1]
    return {
        "number": number.to_bytes(32, "big"),
        "number, little end first": number.to_bytes(32, "little"),
        "DER": base64.b64decode("".join(lines))[:70],
    } | {f"PEM, line {at}": line.encode() for at, line in enumerate(lines[:2])}


def memory(pid: int):
    """Yield the writable memory of a process, in pieces that overlap."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            first, last = (int(at, 16) for at in span.split("-"))
            if not rights.startswith("rw"):
                continue
            for at in range(first, last, PIECE):
                mem.seek(at)
                try:
                    yield mem.read(min(PIECE + 128, last - at))
                except OSError:  # a mapping that has gone since, or that has no memory behind it
                    break


def found(pid: int, wanted: dict[str, bytes]) -> set[str]:
    """Return which of these are in the memory of a process."""
    return {name for piece in memory(pid) for name, form in wanted.items() if form in piece}


@pytest.fixture(scope="module")
def reads_memory():
    """Skip where the memory of another process cannot be read."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            Path(f"/proc/{other.pid}/mem").open("rb").close()
        except OSError as problem:
            pytest.skip(f"the memory of other processes cannot be read here: {problem}")
        finally:
            other.kill()


def test_the_servers_memory_never_has_the_issuing_key(reads_memory, tmp_path):
    """Not after enrolments, renewals of sites and of its own certificate, nor after another authority was access."""
    with joined(tmp_path / "fed", sites=2, server_settings="site_certificate_life: 12s") as (made, _):
        kit = read_kit(made.server.kit)
        own = forms(kit.issuing_files[0].read_bytes())
        renewed([node.log for node in made.nodes.values()], 2)
        renewed([made.server.log], 1, "the server's certificate is new")
        (signer,) = made.server.signers()
        assert "number, little end first" in found(signer, own) or "number" in found(signer, own)  # the search finds it
        assert found(made.server.pid, own) == set()
        identity = forms(kit.identity_file.read_bytes())
        assert found(made.server.pid, identity)  # and in the server what is the server's

        place = Place(tmp_path / "project.yml", made.folder)
        place.project_file.write_text(made.project_yml)
        words.issue(How(str(made.prod / ADMIN), "localhost", json=True), place)
        renewed([made.server.log], 1, "the issuing authority has changed")
        access = forms(kit.lent_file.read_bytes())
        (signer,) = made.server.signers()
        assert "number, little end first" in found(signer, access) or "number" in found(signer, access)
        assert found(made.server.pid, own | access) == set()
        made.server.stop()
        assert ended([signer], within_s=30)


def test_a_signer_that_is_killed_costs_no_enrolment_and_no_job(tmp_path):
    with joined(tmp_path / "fed", sites=2) as (made, gates):
        job = put_job(
            tmp_path / "job", {"train.py": adding("if task.round == 2:\n    gate(task)")}, with_={"rounds": 3}
        )
        with made.session() as session:
            submitted = session.submit(job)
        for gate in gates.values():
            gate.wait()
        for _ in range(3):
            token, key = invited(made, "site-2"), keys.make()
            (signer,) = made.server.signers()
            os.kill(signer, signal.SIGKILL)
            assert ended([signer], within_s=30)
            cert = asyncio.run(enrolled(made, "site", "site-2", token, key))
            assert cert.public_key() == key.public_key()
            assert signer not in made.server.signers()
        (signer,) = made.server.signers()
        os.kill(signer, signal.SIGKILL)
        for gate in gates.values():
            gate.open()
        with made.session() as session:
            detail = session.wait(submitted.id)
        assert detail.job.state == "completed"
        assert [len(done.took_part) for done in detail.rounds[1:]] == [2, 2, 2]
        assert made.server.log.read_text().count("the signer died") == 3


def test_the_signer_ends_with_a_server_that_is_killed(tmp_path):
    made = Federation(tmp_path / "fed", sites=1)
    made.server.start()
    (signer,) = made.server.signers()
    made.server.kill()
    assert ended([signer], within_s=30)


def test_a_restart_of_the_server_leaves_one_signer(tmp_path):
    made = Federation(tmp_path / "fed", sites=1)
    try:
        made.server.start()
        (before,) = made.server.signers()
        leave(made, "server", restart=True)
        renewed([made.server.log], 2, "server ready")
        (after,) = made.server.signers()
        assert after != before
        assert not Path(f"/proc/{before}").exists()
    finally:
        made.down()
