"""Artifacts leave a site where its policy says so and nowhere else, and harm no job."""

import asyncio
import os
from contextlib import suppress

import pytest
from blake3 import blake3

from convoy.admin import connect
from convoy.errors import ConvoyError
from convoy.wire import convoy_pb2 as pb
from convoy.wire import package
from convoy.wire.frames import LENGTH
from tests.attacks.test_floods import Site
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import adding, put_job, readyz

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]
MIB = 1 << 20
WRITES = """
from pathlib import Path
here = Path("artifacts")
(here / "plots").mkdir(parents=True, exist_ok=True)
(here / "plots" / "loss 1.txt").write_text(f"loss at {task.site}")
(here / "run.sh").write_text("#!/bin/sh")
(here / "run.sh").chmod(0o755)
(here / "empty").write_bytes(b"")
(here / ("n" * 240)).write_bytes(b"long")
(here / ("n" * 250)).write_bytes(b"too long")
(here / "weights.bin").write_bytes(bytes([number]) * (3 << 20))
(here / "zzz-too-much.bin").write_bytes(bytes(2 << 20))
(here / ".ssh").mkdir(exist_ok=True)
(here / ".ssh" / "authorized_keys").write_text("ssh-ed25519 mallory")
(here / "a\\u202etxt.exe").write_text("reads backwards")
(here / "Empty").write_bytes(b"")
open(b"artifacts/bytes\\xff", "w").close()
open(b"elsewhere\\xff", "w").close()
if not (here / "link").is_symlink():
    (here / "link").symlink_to("/etc/passwd")
"""
FLOW = """
import numpy as np

async def run(fleet):
    [one async for one in fleet.ask("train", {"w": np.zeros(4, np.float32)}, sites=["site-1"])]
"""


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    """A server that takes 16 MiB of artifacts of each job, and two sites; the kit of site-3 is in hostile hands."""
    made = Federation(tmp_path_factory.mktemp("artifacts") / "fed", sites=3, server_settings="artifacts: 16Mi")
    policy = made.nodes["site-1"].kit / "local" / "policy.yaml"
    policy.write_text("leave: {artifacts: 4Mi}\n")
    for node in (made.server, made.nodes["site-1"], made.nodes["site-2"]):
        node.start()
    yield made
    made.down()


def test_artifacts_come_back_where_the_policy_lets_them_and_the_log_says_what_does_not(fed, tmp_path):
    job = put_job(tmp_path / "job", {"train.py": adding(WRITES)}, with_={"rounds": 2}, sites=["site-1", "site-2"])
    with fed.session() as session:
        detail = session.wait(session.submit(job).id)
        came = [name for name in detail.results if name.startswith("artifacts/")]
        log = "\n".join(line.text for line in session.logs(detail.job.id))
        session.fetch(detail.job.id, tmp_path / "fetched")
    assert detail.job.state == "completed", detail.job.cause
    mine = ["Empty", "n" * 240, "plots/loss 1.txt", "run.sh", "weights.bin"]
    assert came == [f"artifacts/site-1/{name}" for name in mine]
    folder = tmp_path / "fetched" / "artifacts" / "site-1"
    assert (folder / "plots" / "loss 1.txt").read_text() == "loss at site-1"
    assert (folder / "weights.bin").read_bytes() == b"\1" * (3 * MIB)
    assert not (folder / "run.sh").stat().st_mode & 0o111
    assert "not sent of artifacts/: link: it is not a regular file" in log
    assert "not sent of artifacts/: zzz-too-much.bin: `leave: artifacts` in the policy of site-1 is 4194304" in log
    assert "not sent of artifacts/: .ssh/authorized_keys: its name has a part that begins with '.'" in log
    assert (
        "not sent of artifacts/: a\\u202etxt.exe, bytes\\udcff: its name contains a character that is invisible" in log
    )
    assert "removed with the job: elsewhere\\udcff" in log
    assert "\u202e" not in log
    assert "not sent of artifacts/: empty: its name is in the list twice" in log
    assert "its name has a part of more than 240 bytes" in log
    assert "5 files" in log
    assert "of artifacts/ are kept at site-2" in log
    assert "sent to the server" not in "\n".join(line for line in log.splitlines() if "site-2" in line)


def packed(*files: tuple[str, bytes], size: int | None = None) -> tuple[pb.ArtifactsHead, bytes]:
    """Return an announcement and its package, whatever the names."""
    data = package.listing([(path, len(content)) for path, content in files]) + b"".join(it for _, it in files)
    return announced(data, size), data


def announced(data: bytes, size: int | None = None) -> pb.ArtifactsHead:
    return pb.ArtifactsHead(digest=blake3(data).hexdigest(), size=len(data) if size is None else size)


GOOD = packed(("good.txt", b"good"))
MANY = packed(*((f"{number:05}", b"") for number in range(package.MAX_FILES + 1)))
BOMB = LENGTH.pack((1 << 32) - 1)
LIES = {
    "a name above its folder": packed(("../x", b"x")),
    "a name of another site": packed(("../site-1/run.sh", b"x")),
    "an absolute name": packed(("/etc/cron.d/x", b"x")),
    "a hidden name": packed((".bashrc", b"x")),
    "a name twice": packed(("a", b"x"), ("A", b"y")),
    "a long name": packed(("x" * 255, b"x")),
    "a long path": packed(("/".join(["x" * 100] * 10), b"x")),
    "an empty name": packed(("", b"x")),
    "too many files": MANY,
    "another digest": (pb.ArtifactsHead(digest="0" * 64, size=GOOD[0].size), GOOD[1]),
    "sizes that do not fit": (announced(package.listing([("a", 1 << 40)])), package.listing([("a", 1 << 40)])),
    "a list without end": (announced(BOMB), BOMB),
    "no list": (announced(b"x"), b"x"),
    "garbage": (announced(b"\3\0\0\0\xff\xff\xff" * 100), b"\3\0\0\0\xff\xff\xff" * 100),
    "nothing": (announced(b""), b""),
    "more than the server takes": packed(("big", bytes(9 * MIB))),
    "more than it announced": (GOOD[0], GOOD[1] + b"more" * MIB),
    "less than it announced": (announced(GOOD[1], GOOD[0].size + 1), GOOD[1]),
    "another job's": (pb.ArtifactsHead(job="0" * 32, digest=GOOD[0].digest, size=GOOD[0].size), GOOD[1]),
}


async def ending(fed, ada, site, tmp_path):
    """Return an open line of a hostile site that has heard that a job is over, and the job's id."""
    files = {"train.py": adding(WRITES), "flow.py": FLOW}
    job = put_job(tmp_path / "job", files, workflow="flow.py:run", sites=["site-1", "site-3"], with_={})
    stream = await site.line()
    sent = (await ada.submit(job)).id
    while (down := await stream.read(pb.Down)).WhichOneof("it") != "stop":
        if down.WhichOneof("it") == "start":
            await stream.write(pb.Up(ready=pb.JobReady(job=down.start.job)))
    return stream, sent


async def bring(site, job, head, data):
    """Bring a package as a hostile site does; return the server's last verdict."""
    said = pb.Verdict(reason="hung up")
    stream = await site.way.dial()
    with suppress(ConvoyError, OSError):
        await stream.write(
            pb.Opening(artifacts=pb.ArtifactsHead(job=head.job or job, digest=head.digest, size=head.size))
        )
        said = await stream.read(pb.Verdict) or said
        if not said.fault:
            await stream.give(memoryview(data))
            stream.cut()
            said = await stream.read(pb.Verdict) or said
    stream.close()
    return said


@pytest.mark.parametrize("lie", LIES)
async def test_what_a_hostile_site_sends_as_artifacts_costs_it_its_own_and_the_job_nothing(fed, tmp_path, lie):
    site = Site(fed, "site-3")
    head, data = LIES[lie]
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        stream, job = await ending(fed, ada, site, tmp_path)
        await bring(site, job, head, data)
        await stream.write(pb.Up(stopped=pb.JobStopped(job=job)))
        [_ async for _ in ada.watch(job)]
        detail = await ada.job(job)
        stream.close()
    assert detail.job.state == "completed", detail.job.cause
    came = [name for name in detail.results if name.startswith("artifacts/site-3")]
    assert came == (["artifacts/site-3/good.txt"] if lie == "more than it announced" else [])
    assert "artifacts/site-1/weights.bin" in detail.results
    assert "model.safetensors" in detail.results
    assert not [
        name for *_, names in os.walk(fed.server.kit / "work" / "jobs") for name in names if name.endswith(".part")
    ]
    assert readyz(fed.server)[0] == 200


async def test_nobody_waits_for_artifacts_while_a_job_runs_nor_for_a_second_package(fed, tmp_path):
    site = Site(fed, "site-3")
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        stream, job = await ending(fed, ada, site, tmp_path)
        assert not (await bring(site, job, *GOOD)).fault
        assert "has sent the artifacts of this job already" in (await bring(site, job, *GOOD)).reason
        await stream.write(pb.Up(stopped=pb.JobStopped(job=job)))
        [_ async for _ in ada.watch(job)]
        assert "does not wait for artifacts of this job" in (await bring(site, job, *GOOD)).reason
        stream.close()


async def test_an_aborted_job_does_not_wait_for_artifacts_that_stand_still(fed, tmp_path):
    site = Site(fed, "site-3")
    async with connect(fed.prod / ADMIN, server="localhost") as ada:
        files = {"train.py": adding("import time\ntime.sleep(600)"), "flow.py": FLOW}
        job = put_job(tmp_path / "job", files, workflow="flow.py:run", sites=["site-1", "site-3"], with_={})
        stream = await site.line()
        sent = (await ada.submit(job)).id
        while (down := await stream.read(pb.Down)).WhichOneof("it") != "start":
            pass
        assert down.start.job == sent
        aborting = asyncio.create_task(ada.abort(sent))
        while (down := await stream.read(pb.Down)).WhichOneof("it") != "stop":
            pass
        still = await site.way.dial()
        await still.write(pb.Opening(artifacts=pb.ArtifactsHead(job=sent, digest="0" * 64, size=8 << 20)))
        assert not (await still.read(pb.Verdict)).fault
        await stream.write(pb.Up(stopped=pb.JobStopped(job=sent)))
        assert (await aborting).state == "aborted"
        still.close()
        stream.close()
