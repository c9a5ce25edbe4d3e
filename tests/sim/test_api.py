"""`convoy.simulate`: from a script, beside a running event loop and in a real notebook's kernel."""

import asyncio
import importlib.util
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import convoy
from convoy import partition
from convoy.errors import BadInput, JobFailed, NotFound
from tests.scenarios.conftest import put_job

TRAIN = """
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(3)}


def train(task):
    print("round", task.round, "at", task.site)
    rows = np.load(task.data["rows"])["x"] if "rows" in task.data else np.ones(3)
    return convoy.Reply({"w": task.model["w"] + rows.sum()}, weight=len(rows), metrics={"loss": 1 / task.round})
"""


@pytest.fixture
def job(tmp_path):
    spec = {"trainer": "train.py:train", "model": "train.py:initial", "with_": {"rounds": 3, "min_sites": 1}}
    return put_job(tmp_path / "job", {"train.py": TRAIN}, **spec)


def test_it_returns_models_history_logs_and_where_they_are(job, capsys):
    done = convoy.simulate(job, sites=2, workers=0)
    assert [made["round"] for made in done.history] == [0, 1, 2, 3]
    assert done.history[-1]["metrics"] == {"loss": pytest.approx(1 / 3)}
    np.testing.assert_array_equal(done.model["w"], [9, 9, 9])
    assert done.log("site-2").splitlines() == ["round 1 at site-2", "round 2 at site-2", "round 3 at site-2"]
    assert done.log() == ""
    with pytest.raises(NotFound, match="no site 'site-3'"):
        done.log("site-3")
    assert capsys.readouterr().out.splitlines()[-1] == "job  round 3/3  loss 0.3333  2 took part"
    folder = done.folder
    assert (folder / "rounds.json").exists()
    del done
    assert not folder.exists()  # nobody has it any more


def test_data_of_the_notebook_is_divided_among_the_sites(job, tmp_path):
    x = np.arange(10.0)
    parts = partition.Parts({"x": x}, partition.iid(10, sites=4, seed=1))
    done = convoy.simulate(job, data={"rows": parts}, workers=2, results=tmp_path / "out", progress=False)
    assert len(done.sites) == 4
    assert sum(weight for _, weight in done.rounds[-1].took_part) == 10
    assert (tmp_path / "out" / "partition-rows.csv").exists()


def test_a_function_hears_of_each_round(job):
    heard = []
    convoy.simulate(job, sites=["a", "b"], workers=0, progress=heard.append)
    assert [(made["round"], made["rounds"], made["took_part"]) for made in heard] == [(1, 3, 2), (2, 3, 2), (3, 3, 2)]


@pytest.mark.parametrize("workers", [0, 2])
def test_it_runs_beside_an_event_loop(job, workers):
    async def cell():
        return convoy.simulate(job, sites=2, workers=workers, progress=False)

    assert asyncio.run(cell()).job.state == "completed"


def test_what_cannot_be_is_raised_and_leaves_nothing(job, tmp_path):
    with pytest.raises(BadInput, match="nobody says how many sites"):
        convoy.simulate(job)
    (job / "train.py").write_text(TRAIN.replace("    print(", "    raise ValueError('no rows')\n    print("))
    with pytest.raises(JobFailed, match="job job failed") as caught:
        convoy.simulate(job, sites=2, workers=0, results=tmp_path / "out")
    assert "no rows" in str(caught.value)
    assert (tmp_path / "out" / "logs" / "site-1.log").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sites": 0}, "sites is 0"),
        ({"sites": True}, "sites is True"),
        ({"sites": 2.5}, "sites is 2.5"),
        ({"sites": 1_000_000}, "a number from 1 to 100,000"),
        ({"sites": ["a", "a"]}, "stands there twice"),
        ({"sites": ["server", "b"]}, "server cannot be a site's name"),
        ({"sites": ["2.5"]}, "2.5 cannot be a site's name"),
        ({"sites": []}, "an empty list cannot be"),
        ({"sites": 2, "workers": -1}, "workers is -1"),
        ({"sites": 2, "workers": "2"}, "workers is '2'"),
        ({"sites": 2, "engine": "nope"}, "there is no engine 'nope'"),
        ({"sites": 2, "data": {"x": None}}, "the data 'x' is a NoneType"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(job, given, said):
    with pytest.raises(BadInput, match=said):
        convoy.simulate(job, progress=False, **given)


def test_a_second_simulation_in_another_thread_is_refused(job):
    said = []

    def again(_):
        with pytest.raises(BadInput, match="another simulation runs") as caught:
            convoy.simulate(job, sites=2, workers=0, progress=False)
        said.append(str(caught.value))

    convoy.simulate(job, sites=2, workers=0, progress=again)
    assert len(said) == 3


def test_a_workflow_that_exits_ends_its_job_alone(tmp_path):
    flow = "import sys\n\n\nasync def run(fleet):\n    sys.exit(5)\n"
    spec = {"trainer": "train.py:train", "model": "train.py:initial", "workflow": "flow.py:run"}
    folder = put_job(tmp_path / "exits", {"train.py": TRAIN, "flow.py": flow}, **spec)
    with pytest.raises(JobFailed, match=r"the workflow ended with sys.exit\(5\)"):
        convoy.simulate(folder, sites=2, workers=0, progress=False)


def test_what_the_session_had_before_is_there_again(job):
    convoy.simulate(job, sites=2, workers=0, progress=False)
    with pytest.raises(BadInput, match="not run by a Convoy node"):
        _ = convoy.config


def test_an_interrupt_is_raised_again_and_what_was_committed_is_written(job, tmp_path):
    (job / "job.yaml").write_text((job / "job.yaml").read_text().replace("rounds: 3", "rounds: 100000"))
    script = f"""
        import asyncio, convoy

        async def cell():
            convoy.simulate({str(job)!r}, sites=2, workers=2, results={str(tmp_path / "out")!r})

        try:
            asyncio.run(cell())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads
    ) as running:
        assert "round 1/" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate()
    assert said.splitlines()[-1] == "interrupted"
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("nbclient", "ipykernel"))), reason="nbclient and ipykernel are not installed"
)
def test_a_notebook_shows_a_bar_that_changes(job):
    import nbformat
    from nbclient import NotebookClient

    cell = f"import convoy\ndone = convoy.simulate({str(job)!r}, sites=2)\ndone.history[-1]['metrics']['loss']"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(book, timeout=100, kernel_name="python3").execute()
    shown, value = book.cells[0].outputs
    assert shown.output_type == "display_data"
    assert '<progress max="3" value="3"></progress> job  round 3/3' in shown.data["text/html"]
    assert float(value.data["text/plain"]) == pytest.approx(1 / 3)
