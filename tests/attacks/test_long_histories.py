"""Long and wide: 10,000 rounds of 20 metrics go on, and 5,000 rounds of 1,000 sites are listed, shown and watched."""

import asyncio
import time
from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa

from convoy.admin.client import connect
from convoy.control.records import Job, Member, Round
from convoy.spec.job import read_job
from convoy.store import tables
from convoy.store.ledger import open_ledger, sqlite_url
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import put_job

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(900)]

ROUNDS = 10_000
METRICS = {f"a metric of the round, number {number}": 1 / (1 + number) for number in range(20)}
FLOW = """
import math


async def run(fleet, *, rounds):
    async for round in fleet.rounds(rounds):
        async for update in fleet.ask("train", round.model, at_least=2):
            pass
        told = [done["metrics"].get("a metric of the round, number 19", 0.0) for done in fleet.history]
        known = {"known": len(fleet.history), "sum": math.fsum(told), "last": fleet.history[-1]["round"]}
        await round.commit(round.model, metrics=known)
"""
TRAIN = """
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(4, np.float32)}


@convoy.train
def train(task):
    if task.round == 2:
        with open(task.data["arrived"], "w") as arrived:
            arrived.write("here")
        with open(task.data["gate"]) as gate:
            gate.read()
    return convoy.Reply(task.model)
"""


def ledger_of(federation):
    return closing(open_ledger(sqlite_url(federation.server.kit / "work" / "convoy.sqlite")))


def repeat(ledger, record, last):
    """Keep a round, and the same again under each number up to `last`; the database itself is faster at that."""
    names = [column.name for column in tables.ROUNDS.c]
    values = ", ".join("n.number" if name == "round" else name for name in names)
    numbers = "WITH RECURSIVE n(number) AS (SELECT :first UNION ALL SELECT number + 1 FROM n WHERE number < :last)"
    copied = f"SELECT {values} FROM rounds, n WHERE job = :job AND round = :of"  # noqa: S608 - names of ours
    ledger.write([record])
    with ledger._engine.begin() as connection:
        connection.execute(
            sa.text(f"{numbers} INSERT INTO rounds ({', '.join(names)}) {copied}"),
            {"first": record.round + 1, "last": last, "job": record.job, "of": record.round},
        )


def test_a_job_of_ten_thousand_rounds_goes_on_and_its_workflow_knows_them_all(gated, tmp_path):
    """Its rounds are written into the ledger while its server is gone; two more are then made."""
    federation, gates = gated()
    files = {"train.py": TRAIN, "flow.py": FLOW}
    folder = put_job(tmp_path / "long", files, workflow="flow.py:run", with_={"rounds": ROUNDS + 2})
    with federation.session(300) as session:
        job = session.submit(folder).id
        for gate in gates.values():
            gate.wait()
        federation.server.kill()
        with ledger_of(federation) as ledger:
            (last,) = [record for record in ledger.load().rounds if record.job == job]
            assert last.round == 1
            repeat(ledger, replace(last, round=2, metrics=METRICS), ROUNDS)
        federation.server.start()
        for gate in gates.values():
            gate.open()
        done = session.wait(job)
        assert done.job.state == "completed", done.job.cause
        assert [made.round for made in done.rounds] == list(range(ROUNDS + 3))
        assert done.rounds[-2].metrics == {
            "known": ROUNDS + 1,
            "sum": pytest.approx((ROUNDS - 1) / 20),
            "last": ROUNDS,
        }
        assert done.rounds[-1].metrics["known"] == ROUNDS + 2
        files = session.fetch(job, tmp_path / "fetched")
        lines = next(file for file in files if file.name == "metrics.jsonl").read_text().splitlines()
        assert len(lines) == ROUNDS + 3


WIDE = 1_000  # sites
MANY = 5_000  # rounds
ENDED = 300  # other jobs
SITES = tuple(f"site-{number:04}" for number in range(1, WIDE + 1))
SPEC = read_job("name: wide\ntrainer: train.py\n", "job.yaml").to_json()
J = "a" * 32


def wide_records():
    """A job of 1,000 sites that has ended, and 300 others of its name."""
    now = time.time()
    job = Job(J, "wide", ADMIN, "org", "d" * 64, 1, SPEC, "completed", "", now - 1e6, now - 1e6, now, rounds=MANY)
    yield job
    for number in range(1, ENDED + 1):
        yield replace(job, id=f"{number:032x}", submitted_at=job.submitted_at + number, state="failed", cause="no luck")
    yield from (Member(J, site, "ended") for site in SITES)


def wide_round():
    took = tuple((site, 12.5) for site in SITES[:-200])
    out = tuple((site, "train: no answer within the round's deadline of 30 s") for site in SITES[-200:])
    return Round(J, 0, "ab" * 32, METRICS, False, took, out, time.time())


PAGE = 1 << 20  # bytes of an answer, the most


def test_a_federation_of_a_thousand_sites_and_five_thousand_rounds_is_looked_at_in_pages(tmp_path):
    federation = Federation(tmp_path / "fed", sites=0)
    (federation.server.kit / "work").mkdir(exist_ok=True)
    with ledger_of(federation) as ledger:
        ledger.write(wide_records())
        repeat(ledger, wide_round(), MANY)
    federation.server.start()
    try:
        asyncio.run(looked_at(federation))
    finally:
        federation.server.stop()


async def looked_at(federation):
    async with connect(federation.prod / ADMIN, server="localhost", patience_s=60) as client:
        for path in ("/jobs", "/jobs?limit=500", f"/jobs/{J}", f"/jobs/{J}/rounds?limit=500", f"/jobs/{J}/rounds/7"):
            async with client._open("GET", path) as chunks:
                assert sum([len(chunk) async for chunk in chunks]) < PAGE, path
        async with client._open("GET", f"/jobs/{J}/watch?after=-1") as chunks:
            lines = b"".join([chunk async for chunk in chunks]).split(b"\n")
            assert max(map(len, lines)) < PAGE
            assert len(lines) > 100

        assert len(await client.jobs()) == ENDED + 1
        assert [job.id for job in await client.jobs(begins="aaa")] == [J]
        assert (await client.jobs(count=1))[0].id == f"{ENDED:032x}"
        assert await client.find("aaaa") == J
        assert await client.find("wide") == f"{ENDED:032x}"

        detail = await client.job(J)
        assert (detail.job.round, detail.job.metrics, len(detail.members)) == (MANY, METRICS, WIDE)
        assert detail.rounds[-1].round == MANY
        assert (detail.rounds[-1].took_part_count, detail.rounds[-1].left_out_count) == (WIDE - 200, 200)
        assert [made.round async for made in client.rounds(J)] == list(range(MANY + 1))
        assert [made.round async for made in client.rounds(J, after=MANY - 2)] == [MANY - 1, MANY]
        whole = await client.round(J, 7)
        assert (len(whole.took_part), len(whole.left_out)) == (WIDE - 200, 200)

        watched = [made.round async for progress in client.watch(J, after=MANY - 30) for made in progress.rounds]
        assert watched == list(range(MANY - 29, MANY + 1))
