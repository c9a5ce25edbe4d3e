"""The audit trail's rules, and a thousand ways to falsify one, each of which is found."""

import dataclasses
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import NotAllowed, RemoteFault
from convoy.trust import audit, keys

PROJECT, START, EVERY, COUNT = "hospitals", 1_800_000_000_000, 10, 60
ACTORS = ("admin:ada@a.org", "admin:bob@b.org", "site:site-1", "server", "stranger")
ACTIONS = ("login", "submit", "abort", "delete", "disable", "update")


def sealed(world, record, pair=None):
    """Return the checkpoint of a record by the server, or by whoever has another (key, certificate)."""
    key_pem, cert_pem = pair or world.server
    return audit.sign(
        record, project=PROJECT, key=keys.from_pem(key_pem), certificate=cert_pem.decode(), at=record.at + 5
    )


def chained(said, project=PROJECT):
    """Return the chain that says these (at, actor, action, object, outcome)."""
    made = []
    for at, actor, action, thing, outcome in said:
        last = made[-1] if made else None
        made.append(
            audit.following(last, project=project, at=at, actor=actor, action=action, object=thing, outcome=outcome)
        )
    return made


def words(record):
    return record.at, record.actor, record.action, record.object, record.outcome


def laid_out(records, checkpoints):
    """Return a trail: each record followed by its checkpoint."""
    signed = {checkpoint.seq: checkpoint for checkpoint in checkpoints}
    return [entry for record in records for entry in (record, signed.get(record.seq)) if entry is not None]


def verified(world, entries, witnessed=(), project=PROJECT):
    check = audit.Verifier(project, world.root.pem)
    check.witness(witnessed)
    for entry in entries:
        check.take(entry)
    return check.end()


@pytest.fixture(scope="module")
def records():
    dice = random.Random(1)  # noqa: S311 - no secret
    return chained(
        (START + 1000 * n, dice.choice(ACTORS), dice.choice(ACTIONS), f"job:{dice.getrandbits(128):032x}", "done")
        for n in range(COUNT)
    )


@pytest.fixture(scope="module")
def checkpoints(world, records):
    return [sealed(world, record) for record in records[EVERY - 1 :: EVERY]]


def test_a_trail_that_nobody_touched_is_whole(world, records, checkpoints):
    report = verified(world, laid_out(records, checkpoints), checkpoints[::2])
    assert report == audit.Report(COUNT, 6, 3, COUNT - 1, records[0].at, records[-1].at)


def test_what_came_after_the_last_signature_is_told(world, records, checkpoints):
    assert verified(world, laid_out(records, checkpoints[:2])).signed_to == 2 * EVERY - 1
    assert verified(world, records).signed_to == -1
    assert verified(world, records, checkpoints[:1]).signed_to == EVERY - 1
    assert verified(world, []) == audit.Report(0, 0, 0, -1, 0, 0)


def test_the_hash_is_the_one_that_the_page_describes(records):
    import hashlib

    first, second = records[:2]
    assert first.prev == hashlib.sha256(b"convoy audit 1\nhospitals").hexdigest()
    said = {key: value for key, value in dataclasses.asdict(second).items() if key != "hash"}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert second.hash == hashlib.sha256(text.encode()).hexdigest()
    assert second.prev == first.hash


@given(
    st.builds(
        audit.Record,
        seq=st.integers(0, audit.MAX_NUMBER),
        at=st.integers(0, audit.MAX_NUMBER),
        **dict.fromkeys(("actor", "action", "object", "outcome", "prev", "hash"), st.text(max_size=20)),
    )
)
def test_an_entry_comes_back_from_its_line_as_it_was(record):
    text = audit.line(record)
    assert "\n" not in text
    assert audit.read(text.encode(), where="it") == record


LINE = {"seq": 0, "at": 1, "actor": "a", "action": "b", "object": "c", "outcome": "d", "prev": "e", "hash": "f"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"record": 3}',
        b"\xff",
        b"[" * 100_000,
        json.dumps({"record": LINE, "checkpoint": LINE}).encode(),
        json.dumps({"other": LINE}).encode(),
        json.dumps({"record": LINE | {"seq": -1}}).encode(),
        json.dumps({"record": LINE | {"seq": True}}).encode(),
        json.dumps({"record": LINE | {"at": 1.0}}).encode(),
        json.dumps({"record": LINE | {"at": 2**53}}).encode(),
        json.dumps({"record": LINE | {"actor": None}}).encode(),
        json.dumps({"record": LINE | {"more": ""}}).encode(),
        json.dumps({"record": LINE | {"actor": "\ud800"}}).encode(),
        json.dumps({"record": LINE | {"actor": "a" * audit.MAX_LINE}}).encode(),
        json.dumps({"record": {key: value for key, value in LINE.items() if key != "hash"}}).encode(),
    ],
)
def test_a_line_that_is_no_entry_is_named(data):
    with pytest.raises(RemoteFault, match=r"line 7 of x is neither a record nor a checkpoint"):
        audit.read(data, where="line 7 of x")


def test_a_trail_of_another_project_is_no_trail_of_ours(world, records):
    others = chained(map(words, records), project="banks")
    with pytest.raises(RemoteFault, match="record 0 was put in the place of a different record"):
        verified(world, others)


def test_a_server_that_told_two_histories_is_convicted_by_two_witnesses(world, records):
    other = chained([(START, "admin:eve@a.org", "submit", "", "done")])
    with pytest.raises(RemoteFault, match="the server signed two records of number 0"):
        verified(world, records, [sealed(world, records[0]), sealed(world, other[0])])


def test_a_server_that_signs_a_changed_past_anew_is_found_and_the_place_is_narrowed_down(world, records, checkpoints):
    said = [words(record) for record in records]
    said[25] = (*said[25][:3], "job:another", "done")
    forged = chained(said)
    entries = laid_out(forged, [sealed(world, record) for record in forged[EVERY - 1 :: EVERY]])
    assert verified(world, entries).records == COUNT
    with pytest.raises(RemoteFault, match="one of the records 20 to 29 is not what the server signed") as found:
        verified(world, entries, checkpoints)
    assert "2027-01-15" in found.value.why
    assert found.value.exit_code == 1


def test_a_checkpoint_counts_only_from_the_server_of_this_project_in_its_time(world, stranger, records):
    for pair in (world.site, world.admin, stranger.server, (world.site[0], world.server[1])):
        with pytest.raises(RemoteFault, match="the checkpoint of record 0 is not the server's"):
            verified(world, [], [sealed(world, records[0], pair)])
    good = sealed(world, records[0])
    expired = audit.sign(
        records[0],
        project=PROJECT,
        key=keys.from_pem(world.server[0]),
        certificate=good.certificate,
        at=START + 400 * 86_400_000,
    )
    with pytest.raises(NotAllowed, match="expired"):
        audit.check(expired, project=PROJECT, root_pem=world.root.pem)
    with pytest.raises(NotAllowed, match="is that of a server of hospitals"):
        audit.check(good, project="banks", root_pem=world.root.pem)


# ---- a thousand mutations


def edited(dice, records):
    """Change one field of one record; as it is, or with the hashes of it and of all that follow made anew."""
    place, name = dice.randrange(len(records)), dice.choice([field.name for field in dataclasses.fields(records[0])])
    record = records[place]
    old = getattr(record, name)
    new = old + dice.choice([-1, 1, 1000]) if isinstance(old, int) else dice.choice(["", old + " ", old[::-1] + "x"])
    if new == old:
        new = "other"
    return [*records[:place], dataclasses.replace(record, **{name: new}), *records[place + 1 :]]


def deleted(dice, records):
    start = dice.randrange(len(records) - 1)
    return records[:start] + records[start + dice.randint(1, 5) :]


def swapped(dice, records):
    one, other = dice.sample(range(len(records)), 2)
    made = list(records)
    made[one], made[other] = made[other], made[one]
    return made


def doubled(dice, records):
    place, at = dice.randrange(len(records)), dice.randrange(len(records) + 1)
    return [*records[:at], records[place], *records[at:]]


def cut(dice, records):
    return records[: dice.randrange(len(records))]


def inserted(dice, records):
    """Put in a record that nobody wrote, chained to the one before as a true one would be."""
    place = dice.randrange(len(records))
    forged = audit.following(
        records[place - 1] if place else None,
        project=PROJECT,
        at=START,
        actor="admin:eve@a.org",
        action="submit",
        object="job:" + "e" * 32,
        outcome="done",
    )
    return [*records[:place], forged, *records[place:]]


def anew(mutation):
    """Return the mutation by somebody who then numbers and chains everything anew, so that no hash is wrong."""

    def mutated(dice, records):
        made = chained(map(words, mutation(dice, records)))
        return made if made != records else cut(dice, records)

    return mutated


MUTATIONS = [edited, deleted, swapped, doubled, cut, inserted]
MUTATIONS += [anew(mutation) for mutation in (edited, deleted, swapped, doubled, inserted)]


@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_random_mutations_are_all_found_by_one_witness(world, stranger, records, checkpoints, seed):
    dice = random.Random(seed)  # noqa: S311 - no secret
    witness = [sealed(world, records[-1])]
    for number in range(100):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        changed = mutation(dice, records)
        assert changed != records
        by_whom = dice.choice(["nobody", "as it was", "the server", "a stranger", "a site"])
        ends = changed[EVERY - 1 :: EVERY]
        match by_whom:
            case "nobody":
                signed = []
            case "as it was":
                signed = checkpoints
            case "the server":  # it has its key: the worst there is
                signed = [sealed(world, record) for record in ends]
            case "a stranger":
                signed = [sealed(world, record, stranger.server) for record in ends]
            case "a site":
                signed = [sealed(world, record, world.site) for record in ends]
        with pytest.raises(RemoteFault) as found:
            verified(world, laid_out(changed, signed), witness)
        assert found.value.why
        assert found.value.fix


def test_every_field_of_a_checkpoint_counts(world, records, checkpoints):
    good = checkpoints[2]
    for name, value in dataclasses.asdict(good).items():
        wrong = value + 1 if isinstance(value, int) else value[:-9] + "AAAAAAAA" + value[-1:]
        forged = dataclasses.replace(good, **{name: wrong})
        entries = laid_out(records, [])
        entries.insert(good.seq + 1, forged)
        with pytest.raises(RemoteFault):
            verified(world, entries)


def test_a_checkpoint_behind_another_record_than_its_own_is_found(world, records, checkpoints):
    with pytest.raises(RemoteFault, match="the checkpoint of record 9 is after record 8"):
        verified(world, [*records[:9], checkpoints[0]])
    with pytest.raises(RemoteFault, match="the checkpoint of record 9 is before the first record"):
        verified(world, [checkpoints[0]])
