"""Data that a simulation divides: every row at one site, the same rows for a seed, and errors with their line."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from convoy import partition
from convoy.errors import BadInput
from convoy.sim.plan import read_plan
from convoy.sim.run import run as simulate
from tests.scenarios.conftest import put_job

TRAIN = """
import csv
import json
from pathlib import Path
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(1)}


def ids(path):
    if path.endswith(".csv"):
        return [int(row["id"]) for row in csv.DictReader(Path(path).read_bytes().decode().splitlines(keepends=True))]
    if path.endswith(".npy"):
        return np.load(path).tolist()
    with np.load(path) as arrays:
        return arrays["id"].tolist()


def train(task):
    found = ids(task.data["train"])
    print(json.dumps(found))
    return convoy.Reply({"w": np.array([float(sum(found))])}, weight=len(found))
"""
ROWS = 90


def put(folder, data, *, sites=5, files=None, **spec):
    stated = json.dumps({"sites": sites, "data": data} if sites else {"data": data})
    known = {"trainer": "train.py:train", "with_": {"rounds": 1}} | spec
    return put_job(folder, {"train.py": TRAIN, "simulate.yaml": stated} | (files or {}), **known)


def table(path):
    """A CSV of people with texts that only a reader of CSV understands."""
    lines = ["id,note,target,when\r\n"]
    lines += [
        f'{row},"it said ""{row}"",\nand more\r\n",{"abc"[row % 3]},2024-01-{1 + row % 28:02}\r\n'
        for row in range(ROWS)
    ]
    path.write_bytes("".join(lines).encode().removesuffix(b"\r\n"))
    return "".join(lines)


def seen(results):
    """Return the rows that each site's trainer printed."""
    return [json.loads(log.read_text().splitlines()[0]) for log in sorted((results / "logs").glob("site-*.log"))]


def run(folder, results, *, workers=0, **given):
    done = simulate(read_plan(folder, **given), results, workers=workers)
    assert done.job.state == "completed", done.job.cause
    return seen(results)


SPLITS = {
    "iid": {"split": "iid"},
    "dirichlet": {"split": "dirichlet", "label": "target", "alpha": 0.3},
    "classes": {"split": "classes", "label": "target", "each": 2},
    "shards": {"split": "shards", "label": "target", "each": 2},
    "sizes": {"split": "sizes", "law": "power", "exponent": 1.2, "label": "target"},
    "by_time": {"split": "by_time", "time": "when"},
    "feature": {"split": "feature", "feature": "id", "strength": 0.5},
    "natural": {"split": "natural", "id": "when"},
    "given": {"split": "given", "label": "target", "table": [[0.2] * 3] * 5},
}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS.keys())
def test_each_line_of_a_csv_is_at_one_site(tmp_path, split):
    table(tmp_path / "people.csv")
    found = run(put(tmp_path / "job", {"train": {"file": "../people.csv"} | split}), tmp_path / "results")
    assert len(found) == 5
    assert sorted(row for rows in found for row in rows) == list(range(ROWS))
    assert all(rows == sorted(rows) for rows in found)
    lines = list(csv.reader((tmp_path / "results" / "partition-train.csv").read_text().splitlines()))
    labels = ["a", "b", "c"] if "label" in split else []
    assert lines[0] == ["site", "rows", *labels]
    assert [(line[0], int(line[1])) for line in lines[1:]] == [
        (f"site-{place}", len(rows)) for place, rows in enumerate(found, 1)
    ]
    if labels:
        assert [sum(int(line[place]) for line in lines[1:]) for place in (2, 3, 4)] == [30, 30, 30]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_text_of_every_line_is_unchanged_and_nothing_stays_behind(tmp_path, workers):
    text = table(tmp_path / "people.csv")
    printing = "print(json.dumps([Path(task.data['train']).read_bytes().decode(), task.data['train']]))"
    reading = TRAIN.replace("print(json.dumps(found))", printing)
    folder = put(tmp_path / "job", {"train": {"file": "../people.csv", "split": "by_time", "time": "id"}}, sites=4)
    (folder / "train.py").write_text(reading)
    run(folder, tmp_path / "results", workers=workers)
    head, _, body = text.partition("\r\n")
    logs = seen(tmp_path / "results")
    parts = [part.removeprefix(f"{head}\r\n") for part, _ in logs]
    assert "".join(parts) == body.removesuffix("\r\n") + "\n"  # the last line of the file did not end
    assert not any(Path(path).exists() for _, path in logs)


def arrays(rows=ROWS):
    return {"id": np.arange(rows), "y": np.arange(rows) % 3, "x": np.random.default_rng(0).normal(size=(rows, 4))}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_parts_for_each_number_of_workers_and_for_each_file(tmp_path, workers):
    np.savez(tmp_path / "it.npz", **arrays())
    np.save(tmp_path / "id.npy", np.arange(ROWS))
    split = {"split": "iid"}
    kinds = {"npz": {"file": "../it.npz"} | split, "npy": {"file": "../id.npy"} | split}
    found = {
        name: run(put(tmp_path / name, {"train": entry}, seed=4), tmp_path / f"of-{name}", workers=workers)
        for name, entry in kinds.items()
    }
    other = run(put(tmp_path / "other", {"train": kinds["npz"]}, seed=5), tmp_path / "of-other", workers=workers)
    own = run(
        put(tmp_path / "own", {"train": kinds["npz"] | {"seed": 9}}, seed=4), tmp_path / "of-own", workers=workers
    )
    assert found["npz"] == found["npy"]
    assert found["npz"] not in (other, own)
    assert own == [rows.tolist() for rows in partition.iid(ROWS, sites=5, seed=9).rows]
    assert sorted(row for rows in found["npz"] for row in rows) == list(range(ROWS))


MAKE = """
import numpy as np
import other

def scans(config):
    return {"id": np.arange(config["rows"]), "y": np.arange(config["rows"]) % other.LABELS}

def pair():
    return np.arange(20.0).reshape(10, 2), np.arange(10)

def none():
    return 3

def broken():
    raise RuntimeError("no disk")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_function_of_the_job_makes_the_data(tmp_path, workers):
    entry = {"make": "data.py:scans", "split": "dirichlet", "label": "y", "alpha": 1}
    files = {"data.py": MAKE, "other.py": "LABELS = 3\n"}
    folder = put(tmp_path / "job", {"train": entry}, files=files, config={"rows": ROWS})
    before = set(sys.modules)
    found = run(folder, tmp_path / "results", workers=workers)
    assert sorted(row for rows in found for row in rows) == list(range(ROWS))
    assert not {"data", "other"} & (set(sys.modules) - before)


def test_two_arrays_are_called_x_and_y(tmp_path):
    entry = {"make": "data.py:pair", "split": "shards", "label": "y", "each": 1}
    plan = read_plan(put(tmp_path / "job", {"train": entry}, files={"data.py": MAKE, "other.py": ""}), sites=2)
    placed = plan.placed(tmp_path / "data", tmp_path / "results")
    with np.load(placed.data["site-2"]["train"]) as part:
        np.testing.assert_array_equal(part["y"], part["x"][:, 0] // 2)
        assert len(part["y"]) == 5
    assert placed.roots == {"train": str(tmp_path / "data" / "train")}


def test_a_program_gives_arrays_with_their_partition(tmp_path):
    folder = put_job(tmp_path / "job", {"train.py": TRAIN}, trainer="train.py:train", with_={"rounds": 1})
    divided = partition.natural(np.arange(ROWS) % 7)
    found = run(folder, tmp_path / "results", data={"train": partition.Parts(arrays(), divided)})
    assert found == [rows.tolist() for rows in divided.rows]
    with pytest.raises(BadInput, match="there are 3 sites, and the data 'train' is divided among 7"):
        read_plan(folder, sites=3, data={"train": partition.Parts(arrays(), divided)})


def test_the_owners_of_rows_say_how_many_sites_there_are(tmp_path):
    table(tmp_path / "people.csv")
    entry = {"file": "../people.csv", "split": "natural", "id": "when"}
    folder = put(tmp_path / "job", {"train": entry, "more": {"file": "../people.csv", "split": "iid"}}, sites=0)
    assert len(read_plan(folder).sites) == 28
    assert len(read_plan(folder, sites=3).sites) == 3


def test_what_is_given_comes_before_what_simulate_yaml_divides(tmp_path):
    (tmp_path / "all.txt").write_text("x")
    folder = put(tmp_path / "job", {"train": {"file": "nowhere.csv", "split": "iid"}})
    plan = read_plan(folder, data={"train": tmp_path / "all.txt"})
    assert not plan.divided
    assert {paths["train"] for paths in plan.data.values()} == {str(tmp_path / "all.txt")}
    assert plan.placed(tmp_path / "data", tmp_path / "results") is plan


def test_columns_of_a_csv_go_to_different_sites_and_shared_ones_to_all(tmp_path):
    table(tmp_path / "people.csv")
    entry = {"file": "../people.csv", "split": "columns", "shared": ["id"]}
    placed = read_plan(put(tmp_path / "job", {"train": entry}, sites=3)).placed(tmp_path / "data", tmp_path / "results")
    heads = []
    for paths in placed.data.values():
        lines = list(csv.reader(Path(paths["train"]).read_bytes().decode().splitlines(keepends=True)))
        assert [line[0] for line in lines[1:]] == [str(row) for row in range(ROWS)]
        heads.append(lines[0])
    assert sorted(heads) == [["id", "note"], ["id", "target"], ["id", "when"]]


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_columns_of_an_array_go_to_different_sites_and_other_arrays_to_all(tmp_path, kind):
    x = arrays()["x"]
    np.savez(tmp_path / "it.npz", **arrays())
    np.save(tmp_path / "it.npy", x)
    entry = {"file": f"../it.{kind}", "split": "columns"} | ({"columns": "x"} if kind == "npz" else {})
    placed = read_plan(put(tmp_path / "job", {"train": entry}, sites=2)).placed(tmp_path / "data", tmp_path / "results")
    parts = [np.load(paths["train"]) for paths in placed.data.values()]
    if kind == "npz":
        assert all(len(part["y"]) == ROWS for part in parts)
    together = np.concatenate([part["x"] if kind == "npz" else part for part in parts], axis=1)
    assert {tuple(column) for column in together.T} == {tuple(column) for column in x.T}
    for part in parts:
        if kind == "npz":
            part.close()


def test_several_columns_are_one_feature(tmp_path):
    (tmp_path / "it.csv").write_text("id,a,b\n" + "".join(f"{row},{row * 2},{-row}\n" for row in range(20)))
    entry = {"file": "../it.csv", "split": "feature", "feature": ["a", "b"]}
    found = run(put(tmp_path / "job", {"train": entry}, sites=2), tmp_path / "results")
    assert sorted(found) == [list(range(10)), list(range(10, 20))]


def test_a_csv_with_a_byte_order_mark_and_bytes_that_are_no_utf8_keeps_them(tmp_path):
    text = b"\xef\xbb\xbfid,name\n0,caf\xe9\n\n1,b\n"
    (tmp_path / "it.csv").write_bytes(text)
    entry = {"file": "../it.csv", "split": "natural", "id": "id"}
    placed = read_plan(put(tmp_path / "job", {"train": entry}, sites=2)).placed(tmp_path / "data", tmp_path / "results")
    parts = [Path(paths["train"]).read_bytes() for paths in placed.data.values()]
    assert parts == [b"\xef\xbb\xbfid,name\n0,caf\xe9\n", b"\xef\xbb\xbfid,name\n1,b\n"]


REFUSED = {
    "no split": ({"file": "../p.csv"}, '"split" of the data "train" is missing'),
    "another split": ({"file": "../p.csv", "split": "dirichlte"}, '"split" of the data "train" is "dirichlte"'),
    "a typing error": ({"file": "../p.csv", "split": "iid", "sead": 3}, 'unknown key "sead".*did you mean "seed"'),
    "another's parameter": ({"file": "../p.csv", "split": "iid", "alpha": 3}, 'unknown key "alpha"'),
    "the sites": ({"file": "../p.csv", "split": "iid", "sites": 3}, 'unknown key "sites"'),
    "no label": ({"file": "../p.csv", "split": "shards"}, 'does not say its "label".*id, note, target'),
    "no alpha": ({"file": "../p.csv", "split": "dirichlet", "label": "target"}, 'does not say its "alpha"'),
    "no such column": (
        {"file": "../p.csv", "split": "shards", "label": "tarjet"},
        '"label" is "tarjet", and the data has none of that name.*target',
    ),
    "a bad alpha": (
        {"file": "../p.csv", "split": "dirichlet", "label": "target", "alpha": "much"},
        '"alpha" of the data "train": it is \'much\'',
    ),
    "a label that is a number with a point": (
        {"make": "data.py:half", "split": "shards", "label": "y"},
        '"label" of the data "train": they are not whole numbers',
    ),
    "a label that cannot be counted": (
        {"make": "data.py:half", "split": "iid", "label": "y"},
        '"label" of the data "train": they are not whole numbers',
    ),
    "an empty cell": (
        {"file": "../gap.csv", "split": "by_time", "time": "when"},
        '"time" of the data "train": record 2 has no value',
    ),
    "words among features": (
        {"file": "../p.csv", "split": "feature", "feature": ["id", "note"]},
        '"feature" of the data "train": not all of them are finite numbers',
    ),
    "columns of a CSV": (
        {"file": "../p.csv", "split": "columns", "columns": "id"},
        '"columns" is for files of several',
    ),
    "labels of columns": ({"file": "../p.csv", "split": "columns", "label": "id"}, 'unknown key "label"'),
    "too many sites": ({"file": "../few.csv", "split": "iid"}, "2 rows are too few for 5 sites"),
    "no file": ({"file": "../none.csv", "split": "iid"}, "there is no file"),
    "another kind": ({"file": "../p.xlsx", "split": "iid"}, "p.xlsx cannot be divided.*csv"),
    "both": ({"file": "../p.csv", "make": "data.py:pair", "split": "iid"}, "needs a file or a function"),
    "neither": ({"split": "iid"}, "needs a file or a function"),
    "a file of no words": ({"file": 3, "split": "iid"}, '"file" is 3'),
    "no function": ({"make": "data.py", "split": "iid"}, "data.py names no function"),
    "no such function": ({"make": "data.py:nobody", "split": "iid"}, "data.py has no function 'nobody'"),
    "no such module": ({"make": "nobody.py:it", "split": "iid"}, "the job has no file nobody.py"),
    "a function that fails": (
        {"make": "data.py:broken", "split": "iid"},
        "data.py:broken failed\nRuntimeError: no disk",
    ),
    "a function of no arrays": ({"make": "data.py:none", "split": "iid"}, "data.py:none returned int"),
    "arrays of other lengths": ({"make": "data.py:uneven", "split": "iid"}, "do not have the same number of rows"),
    "objects": ({"make": "data.py:objects", "split": "iid"}, "the array 'x' holds Python objects"),
    "a broken CSV": ({"file": "../broken.csv", "split": "iid"}, "broken.csv is no CSV"),
    "a short line": ({"file": "../short.csv", "split": "iid"}, "record 2 of short.csv has 1 cells, and the header 2"),
    "no header": ({"file": "../empty.csv", "split": "iid"}, "empty.csv has no header"),
    "a broken npz": ({"file": "../broken.npz", "split": "iid"}, "broken.npz cannot be read"),
    "a broken npy": ({"file": "../broken.npy", "split": "iid"}, "broken.npy cannot be read"),
    "columns of one number": ({"make": "data.py:pair", "split": "columns", "columns": "y"}, "has no columns"),
}
MORE = """
def half(): return {"y": np.full(9, 0.5)}
def uneven(): return {"x": np.zeros(3), "y": np.zeros(4)}
def objects(): return {"x": np.array([None, 1])}
"""


@pytest.mark.parametrize(("entry", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_an_entry_that_cannot_be_is_refused_with_its_line(tmp_path, entry, said):
    table(tmp_path / "p.csv")
    (tmp_path / "p.xlsx").write_text("")
    (tmp_path / "few.csv").write_text("id\n0\n1\n")
    (tmp_path / "broken.csv").write_text('id\n0\n"1\n')
    (tmp_path / "short.csv").write_text("id,b\n0,1\n1\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "gap.csv").write_text("id,when\n" + "0,2024\n1,\n" * 5)
    for kind in ("npz", "npy"):
        (tmp_path / f"broken.{kind}").write_text("no arrays")
    files = {"data.py": MAKE + MORE, "other.py": ""}
    with pytest.raises(BadInput, match="(?s)" + said) as refused:
        read_plan(put(tmp_path / "job", {"train": entry}, files=files))
    assert refused.value.where.startswith("simulate.yaml:1:")


def test_a_name_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot be a name"):
        read_plan(put(tmp_path / "job", {"../x": {"file": "x.csv", "split": "iid"}}))


def test_without_pyarrow_a_parquet_file_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "it.parquet").write_text("")
    with pytest.raises(BadInput, match="pip install pyarrow"):
        read_plan(put(tmp_path / "job", {"train": {"file": "../it.parquet", "split": "iid"}}))


def test_a_parquet_file_is_divided(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: no extra has it")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"id": range(ROWS), "target": ["a", "b", "c"] * 30}), tmp_path / "it.parquet")
    entry = {"file": "../it.parquet", "split": "dirichlet", "label": "target", "alpha": 0.5}
    placed = read_plan(put(tmp_path / "job", {"train": entry})).placed(tmp_path / "data", tmp_path / "results")
    parts = [parquet.read_table(paths["train"])["id"].to_pylist() for paths in placed.data.values()]
    assert sorted(row for rows in parts for row in rows) == list(range(ROWS))


def test_the_command_lists_the_partition_among_its_results(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from convoy.cli.main import app

    table(tmp_path / "people.csv")
    folder = put(tmp_path / "job", {"train": {"file": "../people.csv", "split": "iid"}})
    done = CliRunner().invoke(app, ["simulate", str(folder), "--workers", "0", "-o", str(tmp_path / "results")])
    assert done.exit_code == 0, done.output
    assert "partition-train.csv" in done.output
    assert len((tmp_path / "results" / "partition-train.csv").read_text().splitlines()) == 6
