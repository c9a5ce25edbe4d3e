"""convoy.metrics in a job's code: what it accepts, and how points are gathered on their way."""

import os

import numpy as np
import pytest

import convoy
from convoy import tracking
from convoy.control.points import Point
from convoy.errors import BadInput
from convoy.worker import tasks
from convoy.worker.batch import BURST_S, SOON, VALUES_S, Batch
from convoy.worker.setup import Data, Setup
from convoy.worker.tasks import NodeSession


class Session(NodeSession):
    """A session whose points a test reads."""

    def __init__(self):
        super().__init__(Setup("j", "n", "site-1", {}, Data()))
        self.found = []

    def measured(self, point):
        self.found.append(point)


@pytest.fixture
def session(monkeypatch):
    made = Session()
    monkeypatch.setattr(tasks.Here, "session", made)
    return made


def test_numbers_of_python_numpy_and_torch_are_taken(session):
    convoy.metrics({"a": 1, "b": True, "c": np.float32(0.5), "d": np.array(2)}, step=np.int64(3), phase="train")
    assert session.found == [Point({"a": 1.0, "b": 1.0, "c": 0.5, "d": 2.0}, 3, "train")]
    torch = pytest.importorskip("torch", reason="torch is not installed")
    convoy.metrics({"loss": torch.tensor(0.25)})
    assert session.found[1:] == [Point({"loss": 0.25})]


@pytest.mark.parametrize(
    ("values", "more", "word"),
    [
        ({"a": "0.5"}, {}, "'a' is '0.5'"),
        ({"a": None}, {}, "'a' is None"),
        ({"a": np.ones(1)}, {}, "ndarray is not one number"),
        ([0.5], {}, "wanted a mapping"),
        ({}, {}, "0 values"),
        ({"x" * 101: 1.0}, {}, "printable"),
        ({"a\nb": 1.0}, {}, "printable"),
        ({f"k{n}": 1.0 for n in range(101)}, {}, "101 values"),
        ({"a": 1.0}, {"step": 0.5}, "the step is 0.5"),
        ({"a": 1.0}, {"step": -1}, "the step is -1"),
        ({"a": 1.0}, {"phase": "val"}, "wanted train, evaluate, test"),
    ],
)
def test_anything_else_is_an_error_at_the_call(session, values, more, word):
    with pytest.raises(BadInput) as caught:
        convoy.metrics(values, **more)
    assert word in str(caught.value)
    assert session.found == []


def test_a_number_that_is_not_finite_is_left_out_and_the_log_says_so_once(session, capsys):
    for step in range(3):
        convoy.metrics({"loss": float("nan"), "accuracy": 0.5}, step=step)
    convoy.metrics({"loss": float("inf")})
    convoy.metrics({"loss": 10**400})
    assert [dict(point.values) for point in session.found] == [{"accuracy": 0.5}] * 3
    assert capsys.readouterr().out == (
        "convoy: the metric 'loss' is nan at step 0: numbers that are not finite are left out\n"
    )


def test_the_writers_of_other_trackers_report_numbers_and_write_the_rest_into_the_log(session, capsys):
    board, flow, wandb = tracking.SummaryWriter(), tracking.MLflowWriter(), tracking.WandBWriter()
    board.add_scalar("loss", 0.5, global_step=1)
    board.add_scalars("acc", {"train": 1, "test": 0.5}, 2)
    board.add_text("note", "a text", global_step=3)
    board.flush()
    board.close()
    flow.log_metric("loss", 0.25, step=4)
    flow.log_metrics(metrics={"a": 1, "b": 2}, step=5)
    flow.log_param("lr", 0.1)
    flow.log_params({"epochs": 2})
    flow.log_text("hello", "notes/a.txt")
    flow.set_tag("kind", "test")
    flow.set_tags({"of": "digits"})
    wandb.log(metrics={"loss": 0.125}, step=6)
    assert session.found == [
        Point({"loss": 0.5}, 1),
        Point({"acc/train": 1.0, "acc/test": 0.5}, 2),
        Point({"loss": 0.25}, 4),
        Point({"a": 1.0, "b": 2.0}, 5),
        Point({"loss": 0.125}, 6),
    ]
    assert capsys.readouterr().out.splitlines() == [
        "note at step 3: a text",
        "parameter lr: 0.1",
        "parameter epochs: 2",
        "notes/a.txt: hello",
        "tag kind: test",
        "tag of: digits",
    ]


class Gathered:
    """A batch, what it sent and said, and its clock."""

    def __init__(self):
        self.now, self.sent, self.said = 0.0, [], []
        self.batch = Batch(self.sent.append, self.said.append, lambda: self.now)

    def add(self, count, values=1):
        for _ in range(count):
            self.batch.add(Point({f"k{n}": 1.0 for n in range(values)}))

    @property
    def sizes(self):
        return [len(one.points) for one in self.sent]


def test_the_first_point_is_sent_at_once_and_those_soon_after_it_together():
    made = Gathered()
    made.add(10)
    assert made.sizes == [1]
    made.now = 1.0
    made.add(1)
    assert made.sizes == [1, 10]
    made.batch.flush()
    made.batch.flush()
    assert made.sizes == [1, 10]
    made.add(SOON + 5)
    made.batch.flush()
    assert made.sizes == [1, 10, SOON, 5]


def test_a_flood_is_cut_down_and_the_log_says_how_many_values_are_missing():
    made = Gathered()
    most = int(VALUES_S * BURST_S)
    made.add(most // 5 + 3, values=5)
    made.batch.flush()
    assert sum(made.sizes) * 5 == most
    assert made.said == ["convoy: 15 values of live metrics are left out: more than 2000 a second were measured"]
    made.now += 1.0
    made.add(VALUES_S + 1)
    made.batch.flush()
    assert sum(made.sizes) == most // 5 + VALUES_S
    assert len(made.said) == 2


def test_another_process_of_the_trainer_is_told_to_give_its_numbers_back():
    made = Gathered()
    reading, writing = os.pipe()
    if not os.fork():
        try:
            made.add(1)
        except BadInput as problem:
            os.write(writing, problem.fix.encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.wait()
    with os.fdopen(reading) as said:
        assert "give the numbers back" in said.read()
