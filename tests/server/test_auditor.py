"""How the server's audit trail grows: chained, signed in time, told to the sites, bounded whoever knocks."""

import asyncio
from dataclasses import dataclass, field

import pytest
import structlog

from convoy.server import auditor as rooms
from convoy.server.auditor import EVERY, MANY, OFTEN, SOME, Auditor
from convoy.trust import audit
from tests.trust.conftest import NOW, make_world


@dataclass
class Kept:
    """A ledger in memory: what is kept is durable when the test says so."""

    entries: list = field(default_factory=list)
    waiting: list = field(default_factory=list)
    sent: list = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, entry, then=None):
        self.entries.append(entry)
        self.waiting.append(then)
        self.changed.set()

    def durable(self):
        waiting, self.waiting = self.waiting, []
        for then in filter(None, waiting):
            then()

    def read(self, since, count):
        return [entry for entry in self.entries if entry.seq >= since][:count]

    @property
    def records(self):
        return [entry for entry in self.entries if isinstance(entry, audit.Record)]

    @property
    def checkpoints(self):
        return [entry for entry in self.entries if isinstance(entry, audit.Checkpoint)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("root"))


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def open_(world, kept):
    """Open the trail that is kept, as a server does when it starts."""

    def made(identity=world.server):
        return Auditor(
            "hospitals",
            lambda: world.root.pem,
            lambda: (identity[0], identity[1].decode()),
            kept.keep,
            kept.sent.append,
            kept.read,
            None,
            kept.records[-1] if kept.records else None,
            kept.checkpoints[-1] if kept.checkpoints else None,
            wall=lambda: NOW,
        )

    return made


def verified(world, kept):
    check = audit.Verifier("hospitals", world.root.pem)
    for entry in kept.entries:
        check.take(entry)
    return check.end()


async def test_records_are_signed_by_the_hundred_and_told_once_they_are_durable(world, kept, open_):
    auditor = open_()
    for number in range(EVERY):
        auditor.note("admin:ada@a.org", "submit", f"job:{number}")
    assert [checkpoint.seq for checkpoint in kept.checkpoints] == [EVERY - 1]
    assert (kept.sent, auditor.greeting()) == ([], None)
    kept.durable()
    (down,) = kept.sent
    assert down == auditor.greeting()
    assert (down.checkpoint.seq, down.checkpoint.hash) == (EVERY - 1, kept.records[-1].hash)
    assert verified(world, kept).signed_to == EVERY - 1


async def test_fewer_are_signed_when_the_first_of_them_is_old_enough(kept, open_, monkeypatch):
    monkeypatch.setattr(rooms, "SIGN_S", 0.0)
    auditor = open_()
    auditor.note("server", "start")
    auditor.note("admin:ada@a.org", "login")
    assert kept.checkpoints == []
    while not kept.checkpoints:
        kept.changed.clear()
        await kept.changed.wait()
    assert [checkpoint.seq for checkpoint in kept.checkpoints] == [1]


async def test_nothing_new_is_not_signed_again(kept, open_):
    auditor = open_()
    auditor.sign()
    auditor.note("server", "start")
    auditor.sign()
    kept.durable()
    auditor.sign()
    assert len(kept.checkpoints) == 1


async def test_a_server_that_starts_again_goes_on_with_the_same_chain(world, kept, open_):
    open_().leave("restarts")
    open_().note("server", "start")
    open_().leave("done")
    assert [record.action for record in kept.records] == ["stop", "start", "stop"]
    assert verified(world, kept).records == 3


async def test_a_stranger_who_knocks_all_day_leaves_few_records_and_a_number(kept, open_):
    auditor = open_()
    for _ in range(10_000):
        auditor.note_some("stranger", "login", "from:10.0.0.9", "refused: the login cannot be read")
    auditor.note_some("site:site-1", "update", "task:j/1.0", "refused: not finite")
    assert len(kept.records) == SOME + 1
    auditor.leave("done")
    told = [record.outcome for record in kept.records if record.action == "more"]
    assert told == [f"refused: {10_000 - SOME} times more within 600 s"]


async def test_what_programs_do_by_themselves_all_day_leaves_few_records_and_a_number(kept, open_):
    auditor = open_()
    for _ in range(1000):
        auditor.note("site:site-2", "renew")
        auditor.note("admin:ada@a.org", "login")
    auditor.note("admin:ada@a.org", "revoke", "site:site-2")  # is not lost among the others
    assert len(kept.records) == 2 * OFTEN + 1
    assert kept.records[-1].action == "revoke"
    auditor.leave("done")
    told = {record.actor: record.outcome for record in kept.records if record.action == "more"}
    assert told == {
        "site:site-2": f"renew: {1000 - OFTEN} times more within 600 s",
        "admin:ada@a.org": f"login: {1000 - OFTEN} times more within 600 s",
    }


async def test_what_one_person_does_without_end_leaves_a_bounded_number_of_records(kept, open_):
    auditor = open_()
    for number in range(MANY + 5):
        auditor.note("admin:lea@a.org", "submit", f"job:{number}")
    auditor.leave("done")
    assert [record.action for record in kept.records[MANY:]] == ["more", "stop"]
    assert kept.records[MANY].outcome == "submit: 5 times more within 600 s"


async def test_the_number_is_told_when_the_window_ends_and_the_next_knock_has_a_record_again(kept, open_, monkeypatch):
    monkeypatch.setattr(rooms, "WINDOW_S", 0.0)
    auditor = open_()
    for _ in range(SOME + 3):
        auditor.note_some("stranger", "login", "", "refused")
    while kept.records[-1].action != "more":
        kept.changed.clear()
        await kept.changed.wait()
    auditor.note_some("stranger", "login", "", "refused")
    assert [record.action for record in kept.records[-2:]] == ["more", "login"]


async def test_texts_from_elsewhere_are_cut_and_can_be_kept_and_hashed(world, kept, open_):
    auditor = open_()
    auditor.note("admin:\ud800", "submit", "job:\0" + "x" * 100_000, "ü\n行")
    assert len(audit.line(kept.records[0])) < 1000
    assert "\0" not in kept.records[0].object
    assert verified(world, kept).records == 1


async def test_what_no_verifier_would_take_is_not_kept_and_the_next_record_tries_again(world, kept, open_):
    auditor = open_((world.site[0], world.server[1]))
    with structlog.testing.capture_logs() as said:
        auditor.note("server", "start")
        auditor.sign()
    assert kept.checkpoints == []
    assert said[0]["event"] == "the audit trail could not be signed"
    auditor.identity = lambda: (world.server[0], world.server[1].decode())
    auditor.leave("done")
    assert [checkpoint.seq for checkpoint in kept.checkpoints] == [1]


async def test_the_trail_is_read_a_page_after_the_other(kept, open_, monkeypatch):
    monkeypatch.setattr(rooms, "PAGE", 3)
    auditor = open_()
    for _ in range(7):
        auditor.note("server", "start")
    assert [entry.seq async for entry in auditor.trail(2)] == [2, 3, 4, 5, 6]
    assert [entry async for entry in auditor.trail(7)] == []
