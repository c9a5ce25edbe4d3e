"""A partition's checks, its table and its picture; and what partitioners refuse, with what to do."""

import csv
import io
import subprocess
import sys

import numpy as np
import pytest

from convoy import partition
from convoy.errors import BadInput

LABELS = ["cat", "dog", "cat", "eel", "dog", "cat"]
REFUSED = {
    "more sites than rows": (lambda: partition.iid(3, sites=4), r"sites: 3 rows are too few for 4 sites"),
    "no rows": (lambda: partition.iid(0, sites=1), "0 rows are too few"),
    "no labels": (lambda: partition.dirichlet([], sites=1, alpha=1), "labels: there are no rows"),
    "no sites": (lambda: partition.iid(3, sites=0), "sites: it is 0"),
    "half a site": (lambda: partition.iid(3, sites=1.5), "sites: it is 1.5"),
    "a negative seed": (lambda: partition.iid(3, sites=1, seed=-1), "seed: it is -1"),
    "alpha 0": (lambda: partition.dirichlet(LABELS, sites=2, alpha=0), "alpha: it is 0"),
    "alpha nan": (lambda: partition.dirichlet(LABELS, sites=2, alpha=float("nan")), "alpha: it is nan"),
    "alpha true": (lambda: partition.dirichlet(LABELS, sites=2, alpha=True), "alpha: it is True"),
    "alpha huge": (lambda: partition.dirichlet(LABELS, sites=2, alpha=1.7e308), "alpha: .*out of the range"),
    "a label nan": (lambda: partition.shards([1.0, np.nan, 1.0, 2.0], sites=2), r"labels: row 1 has no value"),
    "a label None": (lambda: partition.shards(["a", None, "b", "c"], sites=2), "labels: they are of several kinds"),
    "half a label": (lambda: partition.shards([1.5, 2.0, 1.0, 2.0], sites=2), "labels: they are not whole numbers"),
    "labels of two columns": (lambda: partition.shards(np.zeros((4, 2)), sites=2), r"labels: the shape is \(4, 2\)"),
    "complex labels": (lambda: partition.shards(np.zeros(4, complex), sites=2), "labels: they are of dtype complex"),
    "too few for the least": (
        lambda: partition.dirichlet(LABELS, sites=2, alpha=1, least=4),
        "each site gets at least",
    ),
    "more labels than there are": (lambda: partition.classes(LABELS, sites=2, each=4), "4 labels at each site, of 3"),
    "labels at no site": (lambda: partition.classes(LABELS, sites=2, each=1), "some labels would be at no site"),
    "a rare label": (lambda: partition.classes(LABELS, sites=3, each=3), "the label dog has 2 rows for 3 sites"),
    "no such law": (lambda: partition.sizes(9, sites=2, law="zipf"), "there is no law 'zipf'"),
    "a law without its number": (lambda: partition.sizes(9, sites=2, law="power"), "needs its exponent"),
    "another law's number": (
        lambda: partition.sizes(9, sites=2, law="power", exponent=1, alpha=1),
        'alpha: the law "power" has no alpha',
    ),
    "a table of another width": (lambda: partition.given(LABELS, [[1, 2]]), "cat, dog, eel"),
    "a ragged table": (lambda: partition.given(LABELS, [[1, 1, 1], [1]]), "different lengths"),
    "too much of a table": (lambda: partition.given(LABELS, [[3, 3, 0]]), "3 rows of the label dog, which has 2"),
    "shares above 1": (lambda: partition.given(LABELS, [[0.8, 0, 0], [0.8, 0, 0]]), "label cat sum to 1.6"),
    "words in a table": (lambda: partition.given(LABELS, [["a", "b", "c"]]), "table: not all of it are numbers"),
    "a negative share": (lambda: partition.given(LABELS, [[-0.5, 0, 0]]), "table: not all of it are numbers"),
    "more sites than owners": (lambda: partition.natural(LABELS, sites=4), "3 ids are too few for 4 sites"),
    "no time": (lambda: partition.by_time(np.array(["2024", "NaT"], "M8[D]"), sites=2), "some values are missing"),
    "a time nan": (lambda: partition.by_time([1.0, np.nan], sites=2), "times: some values are missing"),
    "strength 2": (lambda: partition.feature([1, 2], sites=2, strength=2), "strength: it is 2"),
    "words for a feature": (lambda: partition.feature(LABELS, sites=2), "values: .*finite numbers"),
    "a feature nan": (lambda: partition.feature([[1.0], [np.nan]], sites=2), "values: .*finite numbers"),
    "too wide": (lambda: partition.feature(np.zeros((2, 5000)), sites=2), "5,000 features are too many"),
    "no such column": (lambda: partition.columns(["a", "b"], sites=1, shared=["c"]), "there is no column 'c'"),
    "one word for columns": (lambda: partition.columns(["a", "b"], sites=1, shared="a"), "shared: it is 'a'"),
    "too few columns": (lambda: partition.columns(3, sites=3, shared=[0]), "2 columns are too few for 3 sites"),
    "no list of rows": (lambda: partition.Partition(([0.5],)), "site 1 of the partition has no list of row numbers"),
    "a row below 0": (lambda: partition.Partition(([1], [-1])), "site 2 of the partition"),
    "a row twice": (lambda: partition.Partition(([1, 1],)), "has a row twice"),
    "nobody": (lambda: partition.Partition(()), "has no sites"),
    "labels for fewer rows": (lambda: partition.Partition(([5],)).labelled([1, 2]), "row 5, and there are 2 labels"),
    "arrays of fewer rows": (
        lambda: partition.Parts({"x": np.zeros(3)}, partition.iid(4, sites=2)),
        "row 3, and the arrays have 3 rows",
    ),
    "arrays of other lengths": (
        lambda: partition.Parts({"x": np.zeros(4), "y": np.zeros(3)}, partition.iid(3, sites=2)),
        r"x: \(4,\), y: \(3,\)",
    ),
    "columns for rows": (
        lambda: partition.Parts({"x": np.zeros((4, 4))}, partition.columns(4, sites=2)),
        "a partition of columns",
    ),
}


@pytest.mark.parametrize(("deed", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_divided_is_refused_with_the_reason(deed, said):
    with pytest.raises(BadInput) as refused:
        deed()
    refused.match("(?s)" + said)


def test_a_table_prints_in_columns_and_is_csv():
    found = partition.Partition(([0, 1], [2, 3, 4, 5])).labelled(LABELS)
    assert str(found.table()).splitlines() == [
        "site  rows  cat  dog  eel",
        "   1     2    1    1    0",
        "   2     4    2    1    1",
        " all     6    3    2    1",
    ]
    lines = list(csv.reader(io.StringIO(found.table().csv(["a,b", "c"]))))
    assert lines == [["site", "rows", "cat", "dog", "eel"], ["a,b", "2", "1", "1", "0"], ["c", "4", "2", "1", "1"]]
    assert found.table().rows() == [(1, 2, 1, 1, 0), (2, 4, 2, 1, 1)]


def test_a_table_of_many_sites_shows_the_first_and_the_last():
    shown = str(partition.iid(5000, sites=500).table()).splitlines()
    assert len(shown) == 43
    assert shown[40].strip() == "… 460 more"
    assert shown[41].split() == ["500", "10"]


def test_a_table_of_very_many_labels_counts_rows_alone():
    table = partition.iid(300, sites=2).labelled(range(300)).table()
    assert (table.labels, table.by_label) == ((), None)
    assert table.counts.tolist() == [150, 150]


def test_an_empty_site_has_a_row_of_zeros():
    found = partition.Partition(([], [0, 1])).labelled([True, False])
    assert found.table().by_label.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("sites", [1, 10, 300])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_picture_is_drawn_for_few_sites_and_for_many(tmp_path, sites, labelled):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: it comes with the extra `demo`")
    found = partition.iid(3000, sites=sites)
    found = found.labelled(np.arange(3000) % 10) if labelled else found
    found.draw(tmp_path / "it.png", title="Digits")
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "it.png").stat().st_size > 5_000


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(BadInput, match="pip install"):
        partition.iid(10, sites=2).draw(tmp_path / "it.png")


def test_convoy_has_it_without_another_import():
    code = "import convoy; print(len(convoy.partition.iid(4, sites=2)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "2\n"
