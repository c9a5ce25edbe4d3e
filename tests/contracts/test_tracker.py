"""One suite for every experiment tracker: a folder of TensorBoard, a real MLflow server, W&B's files, and memory."""

import secrets
from dataclasses import replace

import pytest

from convoy.errors import Refused
from convoy.trackers.events import About, Batch, End, Place, Point, Round
from tests.federation import free_ports
from tests.trackers.mlflow_server import MLflowServer
from tests.trackers.readers import Memory, MLflowRuns, TensorBoardFolder, WandBFolder

pytestmark = pytest.mark.timeout(400)  # the first one may install MLflow
JOB = "0123456789abcdef0123456789abcdef"
ABOUT = About(
    job=JOB,
    name="tumours",
    project="trials",
    submitted_at=1_700_000_000.0,
    params={"workflow": "fedavg", "with.rounds": "3", "config.lr": "0.1", "seed": "7"},
    tags={"convoy.job": JOB, "convoy.submitter": "ada@example.org", "convoy.bundle": JOB, "convoy.version": "1"},
)
END = End("completed", "", 1_700_000_100.0, {"convoy.state": "completed", "convoy.sites": "site-1, site-2"})


def made(number, *, best=False):
    """Return a round of two sites, of which the second is late from the third round on."""
    took = (("site-1", 2.0), ("site-2", 3.0)) if number < 3 else (("site-1", 2.0),)
    out = () if number < 3 else (("site-2", "no answer in 30s"),)
    return Round(number, 1_700_000_000.0 + number, {"accuracy": number / 4}, best, True, took, out)


def point(site, number, **given):
    """Return a point; four of them are measured in the same second."""
    at = 1_700_000_000.0 + number // 4
    return Point(site, number, at, 1 + number // 4, {"loss": 0.5}, **({"step": number, "phase": "train"} | given))


def points(site, numbers):
    return tuple(point(site, number) for number in numbers)


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory):
    """A real server for all tests of a process."""
    server = MLflowServer(tmp_path_factory.mktemp("mlflow"), free_ports(1)[0]).start()
    yield server
    server.kill()


@pytest.fixture(params=["memory", "tensorboard", "mlflow", "wandb"])
def kind(request, tmp_path, monkeypatch):
    """A place for runs, of each kind."""
    match request.param:
        case "memory":
            return Memory()
        case "tensorboard":
            pytest.importorskip("tensorboard")
            return TensorBoardFolder(tmp_path / "tb")
        case "mlflow":
            pytest.importorskip("mlflow")
            return MLflowRuns(request.getfixturevalue("mlflow").uri)
        case _:
            pytest.importorskip("wandb")
            return WandBFolder(tmp_path / "wb", monkeypatch)


@pytest.fixture
def job():
    """The id of a job that no other test has."""
    return secrets.token_hex(16)


@pytest.fixture
def about(job):
    return replace(ABOUT, job=job, tags={**ABOUT.tags, "convoy.job": job, "convoy.bundle": job})


def test_a_job_arrives_with_parameters_tags_rounds_points_participants_and_its_end(kind, about, tmp_path):
    tracker = kind.open()
    assert tracker.begin(about) == Place()
    tracker.write(Batch((made(1, best=True),), points("site-1", range(3))))
    tracker.write(Batch((made(2, best=True), made(3)), (*points("site-2", range(2)), point("server", 0, phase=""))))
    results = tmp_path / "results"
    (results / "logs").mkdir(parents=True)
    (results / "model.safetensors").write_bytes(b"model")
    (results / "logs" / "site-1.log").write_text("hello\n")
    tracker.finish(END, results)
    tracker.close()
    seen = kind.seen(about.job)
    assert about.params.items() <= seen.params.items()
    assert about.tags.items() | END.tags.items() <= seen.tags.items()
    assert str(seen.tags["convoy.best_round"]) == "2"
    assert seen.state == "completed"
    assert seen.curves["", "accuracy"] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert seen.curves["", "round/took_part"] == [(1, 2.0), (2, 2.0), (3, 1.0)]
    assert seen.curves["", "round/left_out"] == [(1, 0.0), (2, 0.0), (3, 1.0)]
    assert seen.curves["", "round/best"] == [(1, 1.0), (2, 2.0)]
    assert seen.curves["site-1", "round/weight"] == [(1, 2.0), (2, 2.0), (3, 2.0)]
    assert seen.curves["site-2", "round/weight"] == [(1, 3.0), (2, 3.0)]
    assert seen.curves["site-1", "train/loss"] == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert seen.curves["site-2", "train/loss"] == [(0, 0.5), (1, 0.5)]
    assert seen.curves["server", "loss"] == [(0, 0.5)]
    assert seen.results == ([] if isinstance(kind, TensorBoardFolder) else ["logs/site-1.log", "model.safetensors"])


def test_another_start_goes_on_where_the_last_one_stopped(kind, about):
    first = kind.open()
    first.begin(about)
    first.write(Batch((made(1, best=True),), points("site-1", range(5))))
    first.close()
    second = kind.open()
    assert second.begin(about) == Place(1, {"site-1": 4}, 1)
    second.write(Batch((made(2),), points("site-1", range(5, 8))))
    second.close()
    third = kind.open()
    assert third.begin(about) == Place(2, {"site-1": 7}, 1)
    third.finish(END, None)
    third.close()
    fourth = kind.open()
    assert fourth.begin(about) == Place(2, {"site-1": 7}, 1, ended=True)
    fourth.close()
    seen = kind.seen(about.job)
    assert seen.curves["site-1", "train/loss"] == [(number, 0.5) for number in range(8)]
    assert seen.curves["", "accuracy"] == [(1, 0.25), (2, 0.5)]


def test_points_of_one_second_with_one_step_are_all_kept(kind, about):
    tracker = kind.open()
    tracker.begin(about)
    tracker.write(Batch((), tuple(point("site-1", number, step=None) for number in range(4))))
    tracker.close()
    assert [value for _, value in kind.seen(about.job).curves["site-1", "train/loss"]] == [0.5] * 4


def test_a_round_that_was_not_committed_has_no_metrics(kind, about):
    tracker = kind.open()
    tracker.begin(about)
    tracker.write(Batch((made(1), Round(2, 1_700_000_002.0, {}, committed=False, left_out=(("site-1", "away"),)))))
    tracker.close()
    seen = kind.seen(about.job)
    assert seen.curves["", "accuracy"] == [(1, 0.25)]
    assert seen.curves["", "round/left_out"] == [(1, 0.0), (2, 1.0)]


def test_mlflow_takes_a_batch_once_whose_answer_was_lost(mlflow, about):
    runs = MLflowRuns(mlflow.uri)
    batch = Batch((made(1),), points("site-1", range(1500)))
    for _ in range(2):  # the second tracker does not know that the batch of the first has arrived
        tracker = runs.open()
        tracker.begin(about)
        tracker._place = Place()
        tracker.write(batch)
    seen = runs.seen(about.job)
    assert seen.curves["site-1", "train/loss"] == [(number, 0.5) for number in range(1500)]
    assert seen.curves["site-1", "round/weight"] == [(1, 2.0)]


def test_mlflow_says_what_it_refuses_and_names_no_password(mlflow, about):
    from convoy.trackers.mlflow import MLflow

    assert MLflow("https://me:secret@127.0.0.1:1").name == "MLflow at https://127.0.0.1:1"
    tracker = MLflow(mlflow.uri)
    tracker.begin(about)
    tracker._client.delete_run(tracker._runs[""])
    with pytest.raises(Refused, match="refused what was sent"):
        tracker.write(Batch((made(1),)))


def test_a_folder_of_tensorboard_is_cut_to_what_is_known_to_be_whole(tmp_path, about):
    place = TensorBoardFolder(tmp_path / "tb")
    first = place.open()
    first.begin(about)
    first.write(Batch((made(1),), points("site-1", range(3))))
    (run,) = (tmp_path / "tb").iterdir()
    known = (run / "convoy.json").read_bytes()
    first.write(Batch((made(2),), points("site-2", range(3))))
    (run / "convoy.json").write_bytes(known)  # as if a kill came between the event files and this one
    (mine,) = (run / "site-1").iterdir()
    mine.write_bytes(mine.read_bytes() + b"half a rec")
    with pytest.raises(Refused, match="written by another process"):
        place.open().begin(about)
    first.close()
    second = place.open()
    assert second.begin(about) == Place(1, {"site-1": 2})
    second.write(Batch((made(2),), points("site-2", range(3))))
    second.close()
    seen = place.seen(about.job)
    assert seen.curves["site-1", "train/loss"] == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert seen.curves["site-2", "train/loss"] == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert seen.curves["", "accuracy"] == [(1, 0.25), (2, 0.5)]


def test_names_of_metrics_are_data_and_say_nothing_of_the_place(kind, about):
    tracker = kind.open()
    tracker.begin(about)
    odd = {
        "_convoy/round": 9.0,
        "_step": 9.0,
        "round": 9.0,
        "a b/é|": 1.0,
        "../up": 1.0,
        "/": 1.0,
        "x//y/": 1.0,
        "é" * 400: 1.0,
        "a/" * 200: 1.0,
        "convoy.place": 2.0,
    }
    tracker.write(Batch((Round(1, 1_700_000_001.0, odd),), (Point("site-1", 0, 1_700_000_000.0, 1, dict(odd)),)))
    tracker.close()
    again = kind.open()
    assert again.begin(about) == Place(1, {"site-1": 0})
    again.close()
    assert kind.seen(about.job).curves["site-1", "convoy.place"] == [(1, 2.0)]
