"""What the process for experiment trackers does with trackers that refuse a job, or that fail."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from convoy.errors import Refused
from convoy.trackers import service
from convoy.trackers.service import Done, Service
from convoy.wire.backoff import Backoff
from tests.trackers.memory_tracker import MemoryTracker, Store
from tests.trackers.test_following import MemorySource


@dataclass
class Source(MemorySource):
    """A job that a client reads."""

    job: str = ""


@dataclass
class Refusing(MemoryTracker):
    """Refuses its first jobs, as one does whose project has not been made yet, or fails at them."""

    problems: list = ()

    def begin(self, about):
        if self.problems:
            raise self.problems.pop(0)
        return super().begin(about)


@dataclass
class Both:
    """Two trackers."""

    first: MemoryTracker
    second: MemoryTracker

    def trackers(self):
        yield from (self.first, self.second)


@asynccontextmanager
async def client(_lent):
    yield None


async def test_a_job_that_a_tracker_refused_is_sent_again_and_meanwhile_takes_no_place(tmp_path, monkeypatch, capsys):
    pauses, places = [], asyncio.Semaphore(1)

    async def at_once(backoff, _over):
        pauses.append((backoff._next_s, places.locked()))
        backoff.pause_s()

    monkeypatch.setattr(Backoff, "wait", at_once)
    monkeypatch.setattr(service, "JobSource", lambda _client, job, _tell: Source(job=job))
    monkeypatch.setattr(service.token_access, "connect", client)
    problems = [Refused("no such project"), ValueError("bad http://u:secret@host/x"), *[Refused("no")] * 8]
    trackers = Both(MemoryTracker(Store()), Refusing(Store(), problems=problems))
    done = Done.open(tmp_path / "tracked.json", 0.0)
    async with asyncio.TaskGroup() as group:
        Service(None, trackers, done, group, places).follow("j" * 32)
    assert [pause for pause, _ in pauses] == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    assert not any(locked for _, locked in pauses)
    assert done.jobs.keys() == {"j" * 32}
    assert trackers.second.store.state == "completed"
    assert trackers.first.closed == 1  # what has all of it is not asked again
    printed = capsys.readouterr().out
    assert "no such project" in printed
    assert "bad http://host/x" in printed
    assert "secret" not in printed


@pytest.mark.parametrize(
    "uri",
    ["http://u:pa/ss@host:1", "https://u:a?b/c@host", "http://u:p w@host", "http://host/a@b", "postgresql://h/d?x=@"],
)
def test_a_uri_of_mlflow_whose_password_would_be_shown_is_refused(uri):
    pytest.importorskip("mlflow")
    from convoy.errors import BadInput
    from convoy.trackers.mlflow import MLflow

    with pytest.raises(BadInput, match="has an @ after its host") as caught:
        MLflow(uri)
    assert uri not in str(caught.value)


@pytest.mark.parametrize("password", ["secret", "se@cret", "s%2Fecret@@x"])
def test_no_message_about_mlflow_has_a_password_of_its_uri(password):
    pytest.importorskip("mlflow")
    from convoy.trackers.mlflow import MLflow
    from convoy.trackers.port import Away
    from tests.federation import free_ports
    from tests.trackers.test_following import ABOUT

    made = MLflow(f"http://ada:{password}@127.0.0.1:{free_ports(1)[0]}/base")
    assert made.name.startswith("MLflow at http://127.0.0.1:")
    with pytest.raises(Away) as caught:
        made.begin(ABOUT)
    for part in ("ada", "cret", password):
        assert part not in str(caught.value)
    assert caught.value.__cause__ is None
