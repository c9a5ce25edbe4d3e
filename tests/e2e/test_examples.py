"""Each example and what `convoy job new` writes run simulated; one of each kind on a real federation: the same bits."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from convoy.cli import new
from convoy.sim.plan import read_plan
from convoy.sim.run import run as simulate
from tests.e2e.test_frameworks import REACHED
from tests.federation import ADMIN, Federation

pytestmark = pytest.mark.scenario

EXAMPLES = Path(__file__).parents[2] / "examples"

FRAMEWORKS = {name for name, *_ in REACHED}  # their examples run in test_frameworks.py
HEAVY = {  # copies of these run below, in a federation and simulated: example, what it needs, what it reaches
    "torch_mlp": ("torch", 0.9),
    "xgboost_histogram": ("sklearn", 0.9),
    "xgboost_bagging": ("xgboost", 0.9),
    "random_forest": ("sklearn", 0.9),
    "sklearn_linear": ("sklearn", 0.9),
}


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_a_copy_of_a_frameworks_example_is_a_job(name, tmp_path):
    plan = read_plan(new.write("mine", tmp_path, like=name), sites=3)
    assert plan.job.name == "mine"


@pytest.mark.parametrize("name", sorted(new.examples().keys() - FRAMEWORKS - HEAVY.keys()))
def test_a_copy_of_each_other_example_runs_in_the_simulator(name, tmp_path):
    if name == "breast_cancer" and importlib.util.find_spec("sklearn") is None:
        pytest.skip("sklearn is not installed")
    folder = new.write("mine", tmp_path, like=name)
    sites = None if (folder / "simulate.yaml").exists() else 3
    done = simulate(read_plan(folder, sites=sites), tmp_path / "results", workers=2)
    assert (done.job.state, done.job.name) == ("completed", "mine"), done.job.cause
    assert all(made.took_part for made in done.rounds[1:])


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """Three sites; the named data that the breast-cancer job reads lies in each site's local/."""
    made = Federation(tmp_path_factory.mktemp("examples"), sites=3, settings="data: {patients: patients.csv}")
    yield made.up()
    made.down()


def load(file, monkeypatch):
    """Return a Python file as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, file.stem, module)  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def run(federation, folder):
    """Submit a job folder and return the job once it has completed."""
    with federation.session() as session:
        detail = session.wait(session.submit(folder).id)
        lines = [f"{line.site} | {line.text}" for line in session.logs(detail.job.id)]
    assert detail.job.state == "completed", "\n".join([detail.job.cause, detail.traceback, *lines])
    return detail, lines


def assert_simulated_alike(federation, detail, folder, place, numbers=(0, 2), **data):
    """A simulation of the folder, at sites of the same names with the same data, ends with the same model.

    It runs on the same machine. For torch that counts: with another number of threads (cores, or OMP_NUM_THREADS) its
    sums have other last bits, in a federation as in a simulation.
    """
    for workers in numbers:
        plan = read_plan(folder, sites=sorted(federation.nodes), data=data)
        done = simulate(plan, place / f"of-{workers}", workers=workers)
        assert done.job.state == "completed", done.job.cause
        assert [made.left_out for made in done.rounds] == [()] * len(detail.rounds)
        assert done.rounds[-1].model == detail.rounds[-1].model, f"{workers} workers"


def test_a_workflow_of_the_jobs_own_standardises_then_trains(federation, tmp_path):
    detail, lines = run(federation, EXAMPLES / "own_workflow")
    assert [record.round for record in detail.rounds] == list(range(9))
    assert all(len(record.took_part) == 3 for record in detail.rounds[1:])
    assert detail.job.metrics["accuracy"] > 0.75
    assert any(line.startswith("server | ") and "1500 patients in all" in line for line in lines)
    assert_simulated_alike(federation, detail, EXAMPLES / "own_workflow", tmp_path)


def test_a_script_moved_over_from_nvflare_trains(federation, tmp_path):
    detail, lines = run(federation, EXAMPLES / "moved_from_nvflare")
    losses = [record.metrics["loss"] for record in detail.rounds[1:]]
    assert losses == sorted(losses, reverse=True)
    assert sum("round 5 of 5" in line for line in lines) == 3
    # Not in this process: where some code has imported torch, NVIDIA FLARE's verbs give its tensors.
    assert_simulated_alike(federation, detail, EXAMPLES / "moved_from_nvflare", tmp_path, numbers=(1, 2))


@pytest.mark.skipif(
    not importlib.util.find_spec("sklearn"), reason="scikit-learn is not installed: it comes with the extra `demo`"
)
def test_the_demos_job_trains_on_hospitals_of_unequal_size(federation, tmp_path, monkeypatch):
    split = load(EXAMPLES / "breast_cancer" / "split.py", monkeypatch)
    found = split.split(sorted(federation.nodes), seed=7)
    (tmp_path / "patients").mkdir()
    for site, rows in found.hospitals.items():
        split.write(found, rows, federation.nodes[site].kit / "local" / "patients.csv")
        split.write(found, rows, tmp_path / "patients" / f"{site}.csv")
    detail, _ = run(federation, EXAMPLES / "breast_cancer" / "job")
    assert detail.job.metrics["auc"] > 0.95
    job = EXAMPLES / "breast_cancer" / "job"
    assert_simulated_alike(federation, detail, job, tmp_path, patients=tmp_path / "patients")


def test_statistics_of_tables_are_those_of_a_simulation(federation, tmp_path, monkeypatch):
    job = EXAMPLES / "statistics" / "job"
    columns = load(job / "data.py", monkeypatch).patients()
    rows = list(zip(*(column.tolist() for column in columns.values()), strict=True))
    (tmp_path / "patients").mkdir()
    for site, clinic in zip(sorted(federation.nodes), ("north", "south", "west"), strict=True):
        lines = [",".join(map(str, row)) for row in ([*columns], *(it for it in rows if it[0] == clinic))]
        for path in (federation.nodes[site].kit / "local" / "patients.csv", tmp_path / "patients" / f"{site}.csv"):
            path.write_text("\n".join(lines) + "\n")
    detail, _ = run(federation, job)
    assert detail.job.metrics == {"sites": 3.0, "rows": float(len(rows))}
    assert "statistics.json" in detail.results
    assert_simulated_alike(federation, detail, job, tmp_path, patients=tmp_path / "patients")
    shown = subprocess.run(
        [sys.executable, "-m", "convoy.cli.main", "job", "show", detail.job.id, "--kit", federation.prod / ADMIN],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"all rows: {len(rows)}\nCOLUMN " in shown.stdout, shown.stdout + shown.stderr


def test_survival_curves_are_those_of_a_simulation(federation, tmp_path, monkeypatch):
    job = EXAMPLES / "survival" / "job"
    columns = load(job / "data.py", monkeypatch).patients()
    rows = list(zip(*(column.tolist() for column in columns.values()), strict=True))
    (tmp_path / "patients").mkdir()
    for site, hospital in zip(sorted(federation.nodes), ("north", "south", "west"), strict=True):
        lines = [",".join(map(str, row)) for row in ([*columns], *(it for it in rows if it[0] == hospital))]
        for path in (federation.nodes[site].kit / "local" / "patients.csv", tmp_path / "patients" / f"{site}.csv"):
            path.write_text("\n".join(lines) + "\n")
    detail, _ = run(federation, job)
    assert detail.job.metrics["rows"] == len(rows)
    assert_simulated_alike(federation, detail, job, tmp_path, patients=tmp_path / "patients")
    cox = tmp_path / "cox"
    cox.mkdir()
    with_ = "{table: patients, time: months, event: died, until: 24, steps: 24, columns: [age], min_sites: 3, "
    with_ += "categories: {arm: [placebo, drug]}}"
    (cox / "job.yaml").write_text(f"name: cox\nworkflow: cox\nwith: {with_}\n")
    detail, _ = run(federation, cox)
    assert detail.job.metrics["converged"] == 1.0
    assert_simulated_alike(federation, detail, cox, tmp_path / "of-cox", patients=tmp_path / "patients")


@pytest.mark.parametrize("name", HEAVY)
def test_a_copy_of_networks_trees_and_models_of_scikit_learn_trains(federation, tmp_path, name):
    package, accuracy = HEAVY[name]
    if not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed: it comes with an extra, `torch`, `xgboost` or `demo`")
    folder = new.write("mine", tmp_path, like=name)
    detail, _ = run(federation, folder)
    assert detail.job.name == "mine"
    assert detail.job.metrics["accuracy"] > accuracy
    assert_simulated_alike(federation, detail, folder, tmp_path)


def test_what_job_new_writes_runs_as_it_is(federation, tmp_path):
    folder = new.write("first", tmp_path)
    detail, _ = run(federation, folder)
    assert [record.round for record in detail.rounds] == list(range(6))
    assert "model.safetensors" in detail.results
    assert_simulated_alike(federation, detail, folder, tmp_path)
