"""What a ledger has to do, whichever database keeps it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convoy.control.records import Answer, Job, Member, Question, Round, Task
from convoy.errors import BadInput, NotAllowed, Unreachable
from convoy.model.reply import Slot
from convoy.store import trail
from convoy.store.history import Past, Which
from convoy.store.ledger import AGAIN_S, Dropped, Switched, Undone, Withdrawn, open_ledger
from convoy.trust import audit
from convoy.trust.enrolment import Invite

J, K = "a" * 32, "b" * 32
JOB = Job(J, "tumours", "ada@example.org", "org", "d" * 64, 5 << 30, "{}", "running", "", 1e9 + 0.25)
QUESTION = Question(
    J, "1.0", "train", 1, 3, "m" * 64, (Slot("n", "I64", (None, 2)),), 9, '{"factor": 0.1}', 2, ("a", "b"), 1, 30.5, 2,
    0.1, 1.5, True, False, True, "Proximal", ("site-1", "site-2"), 0,
)  # fmt: skip
ANSWER = Answer("1.0", "u" * 64, 12.5, {"loss": 0.25, "auc": 1e-300}, '{"n": 1}', "", 7)
TASK = Task(J, "1.0", "site-1", "received", ANSWER, 3)
ROUND = Round(J, 1, "m" * 64, {"loss": 0.5}, True, (("site-1", 12.5),), (("site-2", "train: too late"),), 1e9 + 7)
MEMBER = Member(J, "site-1", "ready")


@pytest.fixture
def ledger(database):
    """An open ledger."""
    with closing(open_ledger(database)) as made:
        yield made


def test_a_new_ledger_holds_nothing(ledger):
    contents = ledger.load()
    assert (contents.jobs, contents.members, contents.questions, contents.tasks, contents.rounds) == (
        [],
        [],
        [],
        [],
        [],
    )
    assert contents.switches == {}


def test_what_is_written_is_loaded_to_the_last_bit(ledger):
    ledger.write([JOB, MEMBER, QUESTION, TASK])
    contents = ledger.load()
    assert (contents.jobs, contents.members, contents.questions, contents.tasks) == (
        [JOB],
        [MEMBER],
        [QUESTION],
        [TASK],
    )
    ledger.write([ROUND])
    assert ledger.load().rounds == ledger.history.rounds(J, limit=9) == [ROUND]


def test_it_is_still_there_when_the_ledger_is_opened_again(database):
    with closing(open_ledger(database)) as first:
        first.write([JOB, MEMBER, ROUND])
    with closing(open_ledger(database)) as second:
        contents = second.load()
    assert (contents.jobs, contents.members, contents.rounds) == ([JOB], [MEMBER], [ROUND])


def test_a_record_of_the_same_key_takes_the_place_of_the_older_one(ledger):
    ledger.write([JOB, MEMBER, TASK, QUESTION])
    changed = [replace(JOB, state="ending", cause="why"), replace(MEMBER, state="away", reason="quiet")]
    ledger.write([*changed, TASK._replace(state="open")])
    contents = ledger.load()
    assert [*contents.jobs, *contents.members] == changed
    assert contents.tasks == [TASK._replace(state="open")]


def test_records_of_one_write_count_in_their_order(ledger):
    ledger.write([JOB, replace(JOB, cause="first"), replace(JOB, cause="second")])
    assert [job.cause for job in ledger.load().jobs] == ["second"]


def test_a_write_is_kept_whole_or_not_at_all(ledger):
    ledger.write([JOB])
    with pytest.raises((sa.exc.StatementError, TypeError)):
        ledger.write(
            [replace(JOB, cause="half"), MEMBER, TASK._replace(answer=ANSWER._replace(metrics={"what": object()}))]
        )
    contents = ledger.load()
    assert (contents.jobs, contents.members) == ([JOB], [])


def test_jobs_come_in_the_order_in_which_they_were_submitted(ledger):
    jobs = [replace(JOB, id=letter * 32, submitted_at=at) for letter, at in (("c", 3.0), ("a", 1.0), ("b", 2.0))]
    ledger.write(jobs)
    assert [job.id[0] for job in ledger.load().jobs] == ["a", "b", "c"]


def test_rounds_come_in_their_own_order(ledger):
    ledger.write([JOB, *(replace(ROUND, round=number) for number in (10, 2, 1, 0))])
    assert [done.round for done in ledger.history.every_round(J)] == [0, 1, 2, 10]


def test_of_steps_and_tasks_only_those_that_may_still_be_asked_for_are_loaded(ledger):
    questions = [replace(QUESTION, id=f"{number}.0", round=number) for number in (0, 1, 2)]
    tasks = [TASK._replace(question=question.id) for question in questions]
    ended = replace(JOB, id=K, state="completed")
    unfinished = replace(ROUND, round=2, model="")
    ledger.write([JOB, ended, *questions, *tasks, ROUND, unfinished, replace(QUESTION, job=K), TASK._replace(job=K)])
    contents = ledger.load()
    assert sorted(question.id for question in contents.questions) == ["0.0", "2.0"]
    assert sorted(task.question for task in contents.tasks) == ["0.0", "2.0"]
    assert {question.job for question in contents.questions} == {J}


def test_a_round_that_was_undone_is_gone_and_its_steps_are_open_again(ledger):
    ledger.write([JOB, QUESTION, TASK, replace(ROUND, round=0), ROUND])
    assert ledger.load().questions == []
    ledger.write([Undone(J, 1)])
    contents = ledger.load()
    assert [done.round for done in contents.rounds] == [0]
    assert (contents.questions, contents.tasks) == ([QUESTION], [TASK])


def test_of_rounds_a_start_reads_the_last_committed_one_and_the_last_that_was_best(ledger):
    rounds = [replace(ROUND, round=number, best=number in (1, 3)) for number in range(6)]
    ledger.write([JOB, *rounds, replace(ROUND, round=6, model="")])
    assert ledger.load().rounds == [rounds[3], rounds[5]]
    assert ledger.history.last_committed(J) == rounds[5]
    assert ledger.history.last_committed(J, below=5) == rounds[4]
    assert ledger.history.last_committed(J, below=0) is None
    ledger.write([replace(rounds[5], best=True)])
    assert ledger.load().rounds == [replace(rounds[5], best=True)]


def test_a_start_does_not_read_what_is_over(ledger):
    ended = replace(JOB, id=K, state="failed")
    theirs = [replace(MEMBER, job=K), replace(QUESTION, job=K), TASK._replace(job=K), replace(ROUND, job=K)]
    ledger.write([JOB, ended, *theirs])
    contents = ledger.load()
    assert (contents.jobs, contents.members, contents.questions, contents.rounds) == ([JOB], [], [], [])
    assert (ledger.history.job(K), ledger.history.members(K)) == (ended, [theirs[0]])
    assert ledger.history.owner(K) == ("ada@example.org", "org")
    assert ledger.history.known([J, K, "c" * 32, "../x"]) == {J, K}
    assert (ledger.history.job("c" * 32), ledger.history.owner("c" * 32)) == (None, None)


def test_rounds_are_read_after_a_number_or_from_the_newest_with_or_without_their_sites(ledger):
    rounds = [replace(ROUND, round=number, metrics={"loss": number / 3}) for number in range(9)]
    unfinished = replace(ROUND, round=9, model="", metrics={})
    ledger.write([JOB, *rounds, unfinished, replace(ROUND, job=K)])
    assert ledger.history.rounds(J, after=3, limit=2) == rounds[4:6]
    assert ledger.history.rounds(J, limit=2, newest=True) == [rounds[8], unfinished]
    assert ledger.history.round(J, 7) == rounds[7]
    assert ledger.history.round(J, 10) is None
    assert ledger.history.past(J, after=6, limit=9) == [Past(7, {"loss": 7 / 3}, True), Past(8, {"loss": 8 / 3}, True)]


def test_jobs_are_listed_newest_first_with_their_last_round_in_pages_without_long_texts(ledger):
    jobs = [replace(JOB, id=f"{n:032x}", submitted_at=1e9 + n // 2 + 0.3, traceback="long") for n in range(6)]
    rounds = [replace(ROUND, job=jobs[0].id, round=number, metrics={"n": number}) for number in range(3)]
    ledger.write([*jobs, *rounds, replace(ROUND, job=jobs[0].id, round=3, model="", metrics={})])
    first = ledger.history.jobs(Which(), 4)
    assert [one.job.id for one in first] == [job.id for job in jobs[:1:-1]]
    after = (first[-1].job.submitted_at, first[-1].job.id)
    rest = ledger.history.jobs(Which(before=after), 4)
    assert [(one.job.id, one.round, one.metrics) for one in rest] == [(jobs[1].id, -1, {}), (jobs[0].id, 2, {"n": 2})]
    assert rest[1].job == replace(jobs[0], spec="", traceback="")


def test_jobs_are_found_by_how_their_name_or_id_begins_and_by_what_a_person_may_mean(ledger):
    called = {"c" * 32: ("failed", "Tumours"), "d" * 32: ("running", "tumours"), "e" * 32: ("failed", "tumours")}
    called |= {"f" * 32: ("failed", "tum%urs"), "ab" * 16: ("failed", "x")}
    ledger.write(
        replace(JOB, id=id_, state=state, name=name, submitted_at=1e9 + at)
        for at, (id_, (state, name)) in enumerate(called.items())
    )

    def found(**asked):
        return [one.job.id[0] for one in ledger.history.jobs(Which(**asked), 9)]

    assert found(begins="tum") == ["f", "e", "d"]
    assert found(begins="tum%") == ["f"]
    assert found(begins="ab") == ["a"]
    assert found(meant="tumours") == ["d", "e"]
    assert found(meant="ab") == ["a"]


def test_a_dropped_job_leaves_nothing_and_the_others_stay(ledger):
    other = [replace(JOB, id=K), replace(MEMBER, job=K), replace(QUESTION, job=K), TASK._replace(job=K)]
    ledger.write([JOB, MEMBER, QUESTION, TASK, *other])
    ledger.write([Dropped(J)])
    contents = ledger.load()
    assert [*contents.jobs, *contents.members, *contents.questions, *contents.tasks] == other


def test_a_site_that_was_disabled_is_known_until_it_is_enabled(ledger):
    ledger.write([Switched("site-1", enabled=False), Switched("site-2", enabled=False)])
    assert {site.name for site in ledger.load().switches.values() if not site.enabled} == {"site-1", "site-2"}
    ledger.write([Switched("site-1", enabled=True, revoked_at=7.5)])
    assert ledger.load().switches["site-1"] == Switched("site-1", enabled=True, revoked_at=7.5)


def test_what_is_withdrawn_is_good_no_more_but_for_the_newest_and_for_others(ledger):
    older, newer = Invite("a" * 64, "site", "site-1", 1000.0), Invite("b" * 64, "site", "site-1", 1000.0)
    others = Invite("c" * 64, "site", "site-2", 1000.0)
    ledger.write([older, others])
    ledger.write([Withdrawn("site-1", but=newer.hash), newer])
    with pytest.raises(NotAllowed, match="no good any more") as refused:
        ledger.redeem(older.hash, key="k", now=1.0)
    assert "withdrawn" in refused.value.why
    assert ledger.redeem(newer.hash, key="k", now=1.0) == (newer, 1.0)
    ledger.write([Withdrawn("site-1"), older])  # the kit of a server that starts again tells it anew
    for invitation in (newer, older):  # one that was used goes, too
        with pytest.raises(NotAllowed, match="no good any more") as refused:
            ledger.redeem(invitation.hash, key="k", now=2.0)
        assert "withdrawn" in refused.value.why
    assert ledger.redeem(others.hash, key="k", now=2.0) == (others, 2.0)


INVITE = Invite("f" * 64, "site", "site-1", 1000.0)


def test_an_invitation_is_good_once_until_its_end_and_again_for_the_key_that_used_it(ledger):
    ledger.write([INVITE])
    for token, now in (("e" * 64, 1.0), (INVITE.hash, 1000.0)):
        with pytest.raises(NotAllowed, match=r"unknown|no good any more"):
            ledger.redeem(token, key="k1", now=now)
    for now in (10.0, 11.0, 9.0 + AGAIN_S):
        assert ledger.redeem(INVITE.hash, key="k1", now=now) == (INVITE, 10.0)
    with pytest.raises(NotAllowed, match="no good any more") as refused:
        ledger.redeem(INVITE.hash, key="k2", now=12.0)
    assert refused.value.why == "it was used already"
    with pytest.raises(NotAllowed, match="no good any more"):
        ledger.redeem(INVITE.hash, key="k1", now=10.0 + AGAIN_S)  # ten minutes from its first use
    ledger.write([INVITE])  # a server that starts again reads its kit again
    with pytest.raises(NotAllowed, match="no good any more"):
        ledger.redeem(INVITE.hash, key="k2", now=13.0)


def test_of_many_who_use_an_invitation_at_once_one_gets_it(ledger):
    ledger.write([INVITE])

    def use(number: int) -> bool:
        try:
            ledger.redeem(INVITE.hash, key=f"k{number}", now=10.0)
        except NotAllowed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(32))) == 1


def chain(count):
    """Return the first records of an audit trail."""
    made = []
    for number in range(count):
        words = {"actor": "admin:ü", "action": "submit", "object": f"job:{number}", "outcome": "行"}
        made.append(audit.following(made[-1] if made else None, project="p", at=1_800_000_000_000, **words))
    return made


def checkpoint(record):
    return audit.Checkpoint(record.seq, record.hash, 1_800_000_000_001, "PEM\n" * 300, "c2ln")


def test_the_audit_trail_comes_back_in_its_order_each_record_before_its_checkpoint(ledger):
    records = chain(12)
    ledger.write([*reversed(records[:5]), checkpoint(records[4])])
    ledger.write([*records[5:], checkpoint(records[11])])
    assert ledger.trail(0, 100) == [*records[:5], checkpoint(records[4]), *records[5:], checkpoint(records[11])]
    assert ledger.trail(3, 4) == [*records[3:5], checkpoint(records[4]), *records[5:7]]
    assert ledger.trail(11, 100) == [records[11], checkpoint(records[11])]
    assert ledger.trail(12, 100) == []


def test_a_search_looks_at_so_many_records_and_says_where_the_next_goes_on(ledger, monkeypatch):
    monkeypatch.setattr(trail, "LOOKED_AT", 5)
    records = chain(12)
    ledger.write(records)
    assert ledger.searched(audit.Search(), 100, 3) == (records[:8:-1], 9)
    assert ledger.searched(audit.Search(), 9, 100) == (records[8:3:-1], 4)
    assert ledger.searched(audit.Search(object="JOB:1"), 100, 100) == ([records[11], records[10]], 7)
    assert ledger.searched(audit.Search(object="job:1"), 7, 100) == ([], 2)
    assert ledger.searched(audit.Search(object="job:1"), 2, 100) == ([records[1]], 0)
    assert ledger.searched(audit.Search(outcome="行", actor="ü"), 2, 1) == ([records[1]], 1)
    assert ledger.searched(audit.Search(), 0, 5) == ([], 0)


def test_invitations_are_listed_until_they_expire(ledger):
    first = Invite("1" * 64, "site", "site-1", 100.0)
    used = Invite("2" * 64, "admin", "ada@a.org", 90.0)
    ledger.write([first, used])
    ledger.redeem(used.hash, key="k", now=50.0)
    assert ledger.invites(60.0) == [(used, 50.0), (first, 0.0)]
    assert ledger.invites(95.0) == [(first, 0.0)]
    ledger.write([Withdrawn("site-1")])
    assert ledger.invites(60.0) == [(used, 50.0)]


def test_the_end_of_the_trail_is_known_at_a_start(ledger):
    assert (ledger.load().audited, ledger.load().signed) == (None, None)
    records = chain(12)
    ledger.write([*records, checkpoint(records[9]), checkpoint(records[2])])
    assert (ledger.load().audited, ledger.load().signed) == (records[11], checkpoint(records[9]))


def test_a_record_of_the_trail_is_kept_with_what_it_tells_of_or_not_at_all(ledger):
    with pytest.raises((sa.exc.StatementError, TypeError)):
        ledger.write([*chain(1), TASK._replace(answer=ANSWER._replace(metrics={"what": object()}))])
    assert ledger.trail(0, 9) == []
    ledger.write([*chain(1), JOB])
    assert (ledger.trail(0, 9), ledger.load().jobs) == (chain(1), [JOB])


def test_texts_of_any_script_and_length_come_back_as_they_were(ledger):
    traceback = "Traceback …\n\tZeile ü, 行, 🚚 'quoted' \"twice\" \\ %s :name ; DROP TABLE jobs\r\n" * 2000
    ledger.write(
        [replace(JOB, traceback=traceback, cause="", name="ü" * 255), TASK._replace(traceback=traceback), QUESTION]
    )
    contents = ledger.load()
    assert contents.jobs[0].traceback == contents.tasks[0].traceback == traceback
    assert contents.jobs[0].name == "ü" * 255


def test_a_ledger_that_a_newer_convoy_wrote_is_refused(database):
    with closing(open_ledger(database)) as ledger:
        ledger.write([JOB])
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(BadInput, match="has schema '9999', which this Convoy does not know"):
        open_ledger(database)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)  # SQLite has no -0.0
METRICS = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), NUMBERS, max_size=3
)
ENTRIES = st.one_of(
    st.builds(replace, st.just(JOB), id=st.sampled_from([J, K]), deaths=st.integers(0, 9), submitted_at=NUMBERS),
    st.builds(replace, st.just(MEMBER), job=st.sampled_from([J, K]), site=st.sampled_from(["site-1", "site-10"])),
    st.builds(replace, st.just(ROUND), job=st.sampled_from([J, K]), round=st.integers(0, 3), metrics=METRICS),
    st.builds(Dropped, st.sampled_from([J, K])),
    st.builds(Undone, st.sampled_from([J, K]), st.integers(0, 3)),
)


def remembered(entries):
    """Return what a dictionary remembers of the same entries."""
    kept = {}
    for entry in entries:
        match entry:
            case Job():
                kept[Job, entry.id] = entry
            case Member():
                kept[Member, entry.job, entry.site] = entry
            case Round():
                kept[Round, entry.job, entry.round] = entry
            case Dropped():
                kept = {key: value for key, value in kept.items() if key[1] != entry.job}
            case Undone():
                kept.pop((Round, entry.job, entry.round), None)
    return kept


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.lists(ENTRIES, max_size=6), max_size=5))
def test_a_ledger_remembers_what_a_dictionary_would(ledger, writes):
    ledger.write([Dropped(J), Dropped(K)])
    for entries in writes:
        ledger.write(entries)
    contents, kept = ledger.load(), remembered(entry for entries in writes for entry in entries)
    rounds = [*ledger.history.every_round(J), *ledger.history.every_round(K)]
    members = [member for job in (J, K) for member in ledger.history.members(job)]
    assert sorted(map(repr, [*contents.jobs, *members, *rounds])) == sorted(map(repr, kept.values()))


def test_a_database_that_goes_away_is_named_and_served_again_when_it_is_back(postgres):
    with closing(open_ledger(postgres.database())) as ledger:
        ledger.write([JOB])
        postgres.stop()
        try:
            with pytest.raises(Unreachable, match="the ledger's database does not answer"):
                ledger.write([MEMBER])
        finally:
            postgres.start()
        ledger.write([MEMBER])
        assert (ledger.load().jobs, ledger.load().members) == ([JOB], [MEMBER])


def test_a_database_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("psycopg", reason="psycopg, the driver of PostgreSQL, is not installed")
    with pytest.raises(Unreachable, match="the ledger's database does not answer"):
        open_ledger(f"postgresql+psycopg://nobody@/nothing?host={tmp_path}")


def test_a_database_whose_driver_is_missing_or_whose_url_is_none_is_named():
    with pytest.raises(BadInput, match="database"):
        open_ledger("nonsense://x")
    with pytest.raises(BadInput, match="database"):
        open_ledger("not a url")


def test_each_sites_last_counted_answer_with_a_state_is_known_at_a_start(ledger):
    asked = [replace(QUESTION, id=f"{number}.0", round=number, outlives=False) for number in (1, 2, 3)]
    asked.append(replace(QUESTION, id="1.1", round=1, outlives=True, folded=3))
    tasks = [
        TASK._replace(question=it.id, answer=ANSWER._replace(question=it.id, state_bytes=it.round)) for it in asked
    ]
    tasks[1] = tasks[1]._replace(state="uncounted")
    other = [task._replace(site="site-2") for task in tasks[:2]]
    ledger.write([JOB, *asked, *tasks, *other, *(replace(ROUND, round=number) for number in (1, 2, 3))])
    found = {site: (kept.question, kept.size) for (_, site), kept in ledger.load().after.items()}
    assert found == {"site-1": ("3.0", 3), "site-2": ("1.0", 1)}
    ledger.write([Undone(J, 3)])
    found = {site: (kept.question, kept.size) for (_, site), kept in ledger.load().after.items()}
    assert found == {"site-1": ("1.0", 1), "site-2": ("1.0", 1)}
