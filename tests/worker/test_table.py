"""Tables at a site: what is read, in blocks, and what is wrong with a file, with its line and without its values."""

import sys

import numpy as np
import pytest

from convoy.errors import BadInput
from convoy.worker import table
from convoy.worker.table import open_table


def written(folder, text, name="patients.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def read(path, numbers, texts=()):
    blocks = list(open_table(path).blocks(numbers, texts))
    return np.concatenate([block.numbers for block in blocks]), [
        value for block in blocks for name in texts for value in block.texts[name]
    ]


def test_a_csv_is_read_with_quotes_a_byte_order_mark_and_missing_values(tmp_path):
    text = '\ufeff"age, years",sex,note\r\n 41 ,f,"a ""b""\r\nc"\r\n\r\nNA,,x\r\n1e1,m,\r\nnull,NaN,y\r\n'
    numbers, sexes = read(written(tmp_path, text), ["age, years"], ["sex"])
    np.testing.assert_array_equal(numbers[:, 0], [41.0, np.nan, 10.0, np.nan])
    assert sexes == ["f", "", "m", ""]


def test_a_csv_is_read_in_blocks_and_may_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "ROWS", 10)
    found = open_table(written(tmp_path, "n\n" + "".join(f"{n}\n" for n in range(25))))
    for _ in range(2):
        blocks = list(found.blocks(["n"]))
        assert [(block.first, len(block.numbers)) for block in blocks] == [(0, 10), (10, 10), (20, 5)]
    assert np.concatenate([block.numbers for block in blocks])[:, 0].tolist() == list(range(25))


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        (
            "age\n4\nsecret\n",
            ["age"],
            "patients.csv:3: column 'age' has a value that is not a number\nname",
        ),
        ("age\n4\ninf\n", ["age"], "patients.csv:3: column 'age' has a value that is larger than 1e+100"),
        ("age\n4\n-nan\n", ["age"], "patients.csv:3: column 'age' has a value that is not a number"),
        ("age\n1_0\n", ["age"], "patients.csv:2: column 'age'"),
        ("age,sex\n4,f\n5\n", ["age"], "patients.csv:3: this record has another number of cells than the header"),
        ('age\n"4\n5', ["age"], "this is not CSV"),
        ("age,sex\n4,f\n", ["Age"], 'it has age, sex\ndid you mean "age"?'),
        ("age;sex\n4;f\n", ["age"], "by commas, not by semicolons or tabs"),
        ("age\tsex\n4\tf\n", ["age"], "by commas, not by semicolons or tabs"),
        ("age,sex\n4,f\n", ["height"], "patients.csv has no column 'height'\nit has age, sex"),
        ("", ["age"], "patients.csv has no header of different names"),
        ("a,a\n", ["a"], "patients.csv has no header of different names"),
        (b"age\n\xff\xfe\n", ["age"], "patients.csv is not UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_csv_is_told_with_its_line_and_never_with_its_values(tmp_path, text, columns, said):
    with pytest.raises(BadInput) as caught:
        read(written(tmp_path, text), columns)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"patients.csv cannot be read\nNo such file"):
        open_table(str(tmp_path / "patients.csv"))
    with pytest.raises(BadInput, match=r"patients.xlsx is not a table\nname a file that ends in .csv, .parquet, .npz"):
        open_table(written(tmp_path, "", "patients.xlsx"))


def test_parquet_gives_the_same_rows_as_csv(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "patients.parquet"
    columns = {"age": [41, None, 10], "bmi": [20.5, float("nan"), None], "sex": ["f", None, "m"], "id": [1, 2, 3]}
    parquet.write_table(arrow.table(columns), path)
    numbers, sexes = read(str(path), ["age", "bmi"], ["sex"])
    np.testing.assert_array_equal(numbers, [[41, 20.5], [np.nan, np.nan], [10, np.nan]])
    assert sexes == ["f", "", "m"]
    assert read(str(path), ["age"], ["id"])[1] == ["1", "2", "3"]
    assert read(str(path), [], ["age"])[1] == ["41", "", "10"]
    with pytest.raises(BadInput, match=r"column 'sex' of patients\.parquet has the type string, which is not a number"):
        read(str(path), ["sex"])
    with pytest.raises(BadInput, match=r"broken\.parquet is not a Parquet file"):
        open_table(written(tmp_path, "no parquet at all", "broken.parquet"))


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_whole_numbers_that_are_kept_as_floats_are_the_groups_that_a_csv_has(tmp_path, kind):
    """As pandas keeps whole numbers of which one is missing."""
    path, grades = tmp_path / f"patients.{kind}", [1.0, float("nan"), -2.0, 0.5, 1e22, float("inf")]
    if kind == "npz":
        np.savez(path, grade=grades)
    else:
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(arrow.table({"grade": grades}), path)
    assert read(str(path), [], ["grade"])[1] == ["1", "", "-2", "0.5", "1e+22", "inf"]


def test_whole_numbers_with_a_point_in_a_csv_are_the_same_groups(tmp_path):
    """As pandas writes whole numbers of which one is missing."""
    cells = ["1.0", "", "-2.0", "0.5", "1.10", "01.0", "v1.0", "2"]
    path = written(tmp_path, "\n".join(["grade,n", *(f"{cell},0" for cell in cells)]), "grades.csv")
    assert read(str(path), [], ["grade"])[1] == ["1", "", "-2", "0.5", "1.10", "01.0", "v1.0", "2"]


def test_without_pyarrow_parquet_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"reading p.parquet needs pyarrow(?s:.)*pip install 'convoy-fl\[tables\]'"):
        open_table(written(tmp_path, "", "p.parquet"))


def test_arrays_of_a_simulation_are_a_table_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "ROWS", 2)
    path = tmp_path / "patients.npz"
    np.savez(path, sex=["f", "", "m"], age=[40, 50, 60], weight=[np.nan, 70.5, 80.0])
    first, second = open_table(str(path)).blocks(["weight", "age"], ["sex"])
    np.testing.assert_array_equal(first.numbers, [[np.nan, 40], [70.5, 50]])
    np.testing.assert_array_equal(second.numbers, [[80, 60]])
    assert (first.texts, second.texts, second.first) == ({"sex": ["f", ""]}, {"sex": ["m"]}, 2)
    with pytest.raises(BadInput, match=r"column 'sex' of patients\.npz has the type <U1, which is not a number"):
        next(iter(open_table(str(path)).blocks(["sex"])))


@pytest.mark.parametrize("columns", [{}, {"a": [[1, 2]]}, {"a": [1, 2], "b": [1]}, {"a": [1, {}]}])
def test_arrays_that_are_no_columns_are_refused(tmp_path, columns):
    path = tmp_path / "patients.npz"
    np.savez(path, **{name: np.array(values, object if {} in values else None) for name, values in columns.items()})
    with pytest.raises(BadInput, match=r"patients\.npz is not"):
        open_table(str(path))
