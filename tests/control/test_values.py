"""A field of a question or an answer arrives wherever it is needed: a new one that somebody forgot fails here."""

import dataclasses
import json
import types
from contextlib import closing

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from convoy.admin import views
from convoy.control import effects, events, json_values
from convoy.control.costs import NOTHING, Cost
from convoy.control.records import Answer, JobId, Question, SiteName, Task
from convoy.errors import BadInput, RemoteFault, by_reason
from convoy.flows import turns
from convoy.model.reply import Slot
from convoy.server import performer
from convoy.site.outbox import Kept, as_up
from convoy.site.task import SiteTask
from convoy.store.ledger import open_ledger
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values
from convoy.worker.tasks import Task as TrainerTask
from tests.control.test_machine import A, Drive, joined, submitted

J = JobId("ab" * 16)
QUESTION = Question(
    job=J,
    id="1.0",
    kind="histogram",
    round=1,
    rounds=7,
    model="d" * 64,
    reply=(Slot("n", "I64", (None, 32)), Slot("flag", "BOOL", ())),
    reply_bytes=1 << 16,
    settings='{"columns": ["age"]}',
    at_least=2,
    sites=("site-1", "site-2"),
    sample=2,
    deadline_s=30.5,
    quorum=2,
    grace_s=1.5,
    max_norm=2.5,
    by_arrival=True,
    outlives=True,
    partial=True,
    helper="Proximal",
    cohort=(SiteName("site-1"), SiteName("site-2")),
    folded=3,
)
COST = Cost(1.5, 2.5, 3.5, 4.5, 5, 6.5, 7, 8.5, 9.5, 10, 11, 12)
ANSWER = Answer("1.0", "e" * 64, 12.5, {"loss": 0.25}, '{"n": [1]}', "f" * 64, 77, COST, "I8")
OF_SERVER = {"folded", "cohort"}  # what the server adds to a question; a workflow cannot say it
NOT_FOR_SITES = {"sites", "cohort", "folded"}


def test_every_field_here_differs_from_its_default():
    assert all(value != default for value, default in zip(COST, Cost(), strict=True))
    assert all(getattr(ANSWER, name) != default for name, default in Answer._field_defaults.items())
    for field in dataclasses.fields(QUESTION):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        assert getattr(QUESTION, field.name) != default, field.name


def same(one, other, without=()):
    """Whether two values agree in each field but for some."""
    names = one._fields if isinstance(one, tuple) else [field.name for field in dataclasses.fields(one)]
    for name in names:
        if name not in without:
            assert getattr(one, name) == getattr(other, name), name
    return True


def test_the_messages_have_a_field_for_each_of_the_values():
    shown = {field.name for field in pb.Question.DESCRIPTOR.fields} - {"has_reply"}
    assert shown == {field.name for field in dataclasses.fields(Question)} - {"job", "folded"}
    assert {field.name for field in pb.Answer.DESCRIPTOR.fields} == {*Answer._fields}
    assert {field.name for field in pb.Cost.DESCRIPTOR.fields} == {*Cost._fields}
    assert set(views.CostView.model_fields) == {*Cost._fields}


def test_a_question_goes_from_a_workflow_to_a_trainer_whole(tmp_path):
    said = {field.name: getattr(QUESTION, field.name) for field in dataclasses.fields(QUESTION)}
    kept = []
    carrier = types.SimpleNamespace(ask=lambda question, arrays, tell: kept.append(question))
    fleet = turns.Turns(types.SimpleNamespace(id=J), carrier, turns.Past(), print)
    fleet._round, fleet._total = 1, 7
    made = fleet.question(
        "histogram",
        at_least=2,
        sites=said["sites"],
        sample=2,
        deadline_s=30.5,
        quorum=2,
        grace=1.5,
        max_norm=2.5,
        reply={"n": ("i8", (None, 32)), "flag": (bool, ())},
        reply_limit="64Ki",
        settings={"columns": ["age"]},
        order="arrival",
        outlives=True,
        partial=True,
        helper="Proximal",
    )
    assert same(QUESTION, made, OF_SERVER | {"model", "id"})
    asked = values.question(pb.Question.FromString(values.question_to(QUESTION).SerializeToString()), J)
    assert same(QUESTION, asked, {"folded"})
    drive = Drive()
    drive(joined(A), joined(SiteName("site-2")), submitted(J))
    found = drive(events.Asked(dataclasses.replace(asked, cohort=())))
    record = next(it.record for it in found if isinstance(it, effects.Save) and isinstance(it.record, Question))
    assert same(QUESTION, record, {"folded"})
    with closing(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        ledger.write([drive.machine.state.jobs[J].record, record])
        (loaded,) = ledger.load().questions
    assert loaded == record
    (task, *_) = [it for it in drive.done if isinstance(it, effects.SendTask)]
    message = pb.Task(job=J, question=values.to_site(task.question), model=pb.Blob(digest="d" * 64), after="0.1")
    given_ = SiteTask.read(pb.Task.FromString(message.SerializeToString()))
    assert same(QUESTION, given_.question, NOT_FOR_SITES)
    assert given_.after == "0.1"
    to_trainer = pb.Task(job=J, question=values.to_site(given_.question)).SerializeToString()
    trainer = TrainerTask(None, values.question(pb.Task.FromString(to_trainer).question, J))
    assert same(QUESTION, trainer.asked, NOT_FOR_SITES)
    assert trainer.settings == {"columns": ["age"]}


def test_an_answer_goes_from_a_trainer_to_a_workflow_whole(tmp_path):
    heard = values.answer(pb.Answer.FromString(values.answer_to(ANSWER).SerializeToString()))
    assert heard == ANSWER
    kept = Kept.from_json(Kept(heard, 1, outlives=True).to_json())
    assert (kept.answer, kept.round, kept.outlives) == (ANSWER, 1, True)
    offer = as_up(J, kept, pb.Blob(digest=ANSWER.digest)).offer
    told = values.answer(pb.Offer.FromString(offer.SerializeToString()).answer)
    assert same(ANSWER, told, {"state"})
    assert told.state == ""  # it says something about data, and stays
    task = Task(J, "1.0", SiteName("site-1"), "received", told, 4)
    with closing(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        drive = Drive()
        drive(submitted(J))
        running = dataclasses.replace(drive.machine.state.jobs[J].record, state="running")
        ledger.write([running, QUESTION, task])
        (loaded,) = ledger.load().tasks
    assert loaded == task
    said = pb.SiteAnswer.FromString(performer._told(loaded).SerializeToString())
    assert (said.site, said.left_out) == ("site-1", "")
    assert same(told, values.answer(said.answer), {"cost"})
    assert values.answer(said.answer).cost == NOTHING  # no model can depend on times


@given(st.binary(max_size=400))
def test_noise_in_place_of_a_question_or_an_answer_is_a_fault_of_the_other_side(noise):
    for kind, read in ((pb.Question, lambda said: values.question(said, J)), (pb.Answer, values.answer)):
        try:
            said = kind.FromString(noise)
        except DecodeError:  # which frames turn into ours
            continue
        try:
            read(said)
        except RemoteFault:
            continue


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "../x"},
        {"kind": ""},
        {"kind": "x" * 256},
        {"round": 1 << 31},
        {"model": "../../etc"},
        {"settings": "[1]"},
        {"settings": "{" * 40},
        {"settings": '{"a": NaN}'},
        {"settings": json.dumps({"a": "x" * 70_000})},
        {"settings": '{"a": [[[[[[[[1]]]]]]]]}'},
        {"deadline_s": float("nan")},
        {"grace_s": -1.0},
        {"max_norm": float("inf")},
        {"has_reply": True, "reply": [pb.Slot(name="n", dtype="F32", shape=[-2])]},
        {"has_reply": True, "reply": [pb.Slot(name="n", dtype="F32")] * 2},
        {"has_reply": True, "reply": [pb.Slot(name="", dtype="F32")]},
    ],
    ids=str,
)
def test_what_no_question_can_say_is_refused_at_the_border(broken):
    said = values.question_to(QUESTION)
    for name in broken:
        said.ClearField(name)
    said.MergeFrom(pb.Question(**broken))
    with pytest.raises(RemoteFault):
        values.question(said, J)


def test_settings_and_values_are_plain_json_within_limits():
    assert json_values.read_json(json_values.write_json({"a": [1, None, "é"]}, "it"), "it") == {"a": [1, None, "é"]}
    for wrong in (float("nan"), {1, 2}, np.zeros(2), "x" * 70_000, [[[[[[[[[1]]]]]]]]]):
        with pytest.raises(BadInput):
            json_values.write_json(wrong, "it")


def test_sites_of_one_reason_are_named_together() -> None:
    assert by_reason([("a", "away"), ("b", "late"), ("c", "away"), ("d", "away")]) == ["a, c and d: away", "b: late"]
    assert by_reason((f"s{place}", "away") for place in range(12)) == [
        "s0, s1, s2, s3, s4, s5, s6, s7, s8 and 3 more: away"
    ]
    assert by_reason([]) == []
