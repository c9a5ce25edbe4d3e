"""What the pages of a job with 1,000 sites cost: processor time of the REST API and the dashboard together, by page."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.rows import Row
from convoy.control.clock import Now
from convoy.control.costs import Cost
from convoy.control.records import Answer, Job, JobId, Member, Question, Round, SiteName, Spread, Task
from convoy.control.state import State
from convoy.server.files import Workspace
from convoy.server.reading import JobReader
from convoy.spec.job import read_job
from tests.admin import rest_api
from tests.admin.memory_coordinator import FakeJob
from tests.dashboard.conftest import Shown, logged_in

SITES, ROUNDS, AWAY = 1000, 30, 20
LIMIT_MS = 100
J = JobId("a" * 32)
SPEC = read_job(f"name: tumours\ntrainer: train.py\nwith: {{rounds: {ROUNDS}}}\n", "job.yaml").to_json()
PAGES = (
    *("", "/curves", "/rounds", "/rounds?page=10", f"/rounds/{ROUNDS}", "/updates", "/updates?page=5"),
    *("/updates/series?of=norm", "/resources", f"/resources?round={ROUNDS}&page=5", "/logs", "/results", "/compare"),
)


def records() -> Iterator[object]:
    """Yield what a ledger has of a job of `SITES` sites that all have answered `ROUNDS` times, `AWAY` of them late."""
    yield Job(J, "tumours", "root@a.org", "a", "d" * 64, 1, SPEC, "completed", "", 1e9, 1e9, 1e9 + 60, rounds=ROUNDS)
    sites = [SiteName(f"site-{number:04}") for number in range(SITES)]
    yield from (Member(J, site, "ended") for site in sites)
    for number in range(1, ROUNDS + 1):
        question = f"{number}.0"
        yield Question(J, question, "train", number, cohort=tuple(sites))
        for place, site in enumerate(sites):
            cost = Cost(
                1.2, 5.4 + place / 100, 0.51, 4.2, 1 << 30, took_s=9.1 + place / 10, down=4096, up=1024, answers=1
            )
            answer = Answer(question, "e" * 64, metrics={"loss": 0.5}, cost=cost)
            yield Task(J, question, site, "received", answer, SITES * (number - 1) + place + 1, spent=cost)
        yield Round(
            J,
            number,
            f"{number:064x}",
            {"loss": 1 / number, "accuracy": 0.9},
            best=number == ROUNDS,
            took_part=tuple((site, 10.0 + place % 7) for place, site in enumerate(sites[AWAY:])),
            left_out=tuple((site, "the deadline of 60 s passed") for site in sites[:AWAY]),
            committed_at=1e9 + number,
            spread={site: Spread(1.2345678 + place / 1000, 0.9 - place / 3000) for place, site in enumerate(sites)},
        )


@asynccontextmanager
async def shown(folder: Path) -> AsyncIterator[Shown]:
    """Give a dashboard over a REST API that reads the job from a real ledger."""
    rest = rest_api.make(folder)
    rest.registry.ledger.write(records())  # type: ignore[arg-type]
    reader = JobReader(State(1, {}), rest.registry.ledger.history, Workspace(folder), lambda: Now(0, 0))
    fake = rest.fake
    fake.owner, fake.rounds, fake.round = reader.owner, reader.rounds, reader.round  # type: ignore[method-assign]
    fake.kept[J] = FakeJob(await reader.line(J), {}, folder)  # without a log and live metrics
    fake.job = lambda job, brief=False: reader.detail(job, [], brief=brief)  # type: ignore[method-assign]
    async with rest.serving(), rest.client("root@a.org") as client, logged_in(client) as made:
        yield made


async def by_page(folder: Path, times: int) -> dict[str, float]:
    """Return milliseconds of processor time for each page."""
    took: dict[str, float] = {}
    async with shown(folder) as made:
        for page in PAGES:
            each = []
            for _ in range(times + 1):  # the first compiles the template
                begun = time.process_time()
                answer = await made.get(f"/jobs/{J}{page}")
                each.append(time.process_time() - begun)
                answer.raise_for_status()
            took[page or "overview"] = 1e3 * statistics.median(each[1:])
    return took


def measure(folder: Path, times: int) -> Row:
    """Return the slowest page."""
    took = asyncio.run(by_page(folder, times))
    slowest = max(took, key=took.__getitem__)
    note = ", ".join(f"{page} {ms:.0f}" for page, ms in took.items())
    return Row(f"slowest page of a job with {SITES} sites: {slowest}", took[slowest], LIMIT_MS, "ms", note=note)
