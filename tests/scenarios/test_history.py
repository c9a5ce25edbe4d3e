"""The history of a site in a real federation: true about what left, also after kill -9, and kept after the jobs."""

import pytest

from convoy.owner.account import Book
from convoy.site import bundles, history
from tests.scenarios.conftest import adding, write_job

pytestmark = pytest.mark.scenario


def test_a_site_that_is_killed_while_a_job_runs_records_it_once_and_whole(gated, tmp_path):
    fed, gates = gated()
    work = fed.nodes["site-1"].kit / "work"
    with fed.session() as session:
        sent = session.submit(write_job(tmp_path / "tumours", rounds=4, gate=3))
        for gate in gates.values():
            gate.wait()
        before = Book(work).refresh().jobs[sent.id]
        assert (before.state, before.tally.answers, before.name) == ("running", 2, "tumours")
        fed.nodes["site-1"].kill()
        fed.nodes["site-1"].start()
        for gate in (gates["site-1"],):
            gate.wait()
        for gate in gates.values():
            gate.open()
        for _ in session.watch(sent.id):
            pass
    book = Book(work)
    account = book.refresh().jobs[sent.id]
    assert (account.state, account.tally.answers, account.submitter) == ("completed", 4, "ada@example.org")
    assert not (work / "jobs" / sent.id).exists()
    begun = [it for it in history.entries((work / history.JOBS).read_bytes()) if it["kind"] == history.BEGUN]
    assert len(begun) == 1
    answers = book.answers(sent.id, 100)
    assert [it.round for it in answers] == [4, 3, 2, 1]
    assert sum(it.size for it in answers) == account.tally.size
    assert account.tally.cost.cpu_s > 0
    assert account.tally.log > 0
    assert bundles.kept(work, account.digest) is not None


def test_an_abort_a_failure_and_a_job_that_ended_meanwhile_are_recorded_as_such(gated, tmp_path):
    fed, gates = gated()
    work = fed.nodes["site-1"].kit / "work"
    with fed.session() as session:
        fails = adding('raise ValueError("no such table")')
        failed = session.submit(write_job(tmp_path / "spleens", train=fails, min_sites=1))  # it waits for both
        for _ in session.watch(failed.id):
            pass
        aborted = session.submit(write_job(tmp_path / "tumours", gate=1))
        for gate in gates.values():
            gate.wait()
        session.abort(aborted.id)
        for _ in session.watch(aborted.id):
            pass
        away = session.submit(write_job(tmp_path / "livers", gate=1))
        for gate in gates.values():
            gate.wait()
        fed.nodes["site-1"].kill()
        session.abort(away.id)
        for _ in session.watch(away.id):
            pass
        fed.nodes["site-1"].start()
    accounts = Book(work).refresh()
    assert accounts.jobs[failed.id].tally.stayed >= 1
    assert any("no such table" in it.reason for it in accounts.stayed)
    assert accounts.jobs[aborted.id].end == "aborted by ada@example.org"
    assert accounts.jobs[away.id].end == "the job ended while this site was not connected"
    assert accounts.jobs[aborted.id].tally.answers == 0
