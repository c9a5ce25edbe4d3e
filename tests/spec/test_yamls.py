"""YAML: what is read, what is refused, and that every refusal points at its line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import BadInput
from convoy.spec import yamls


def read(text: str):
    return yamls.load(text, name="a.yaml").data


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    # JSON writes U+007F raw and half of a pair as an escape; YAML reads neither
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef_ :#", max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from("abcdef"), plain))
def test_whatever_json_can_say_is_read_as_json_reads_it(value):
    assert read(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-7", -7),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("10:30", "10:30"),
        ("2026-01-01", "2026-01-01"),
        ("true", True),
        ("~", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("1_000", "1_000"),
        ("9" * 50, "9" * 50),
    ],
)
def test_words_and_numbers_are_those_of_yaml_1_2(text, value):
    assert read(f"x: {text}") == {"x": value}


def test_an_empty_file_is_an_empty_mapping():
    assert yamls.load("# nothing\n", name="a").mapping() == {}


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("a: [1, 2\nb: 3\n", "a.yaml:2:2", "not valid YAML"),
        ("a: 1\na: 2\n", "a.yaml:2:1", "second time"),
        ("a: &x [1]\nb: *x\n", "a.yaml:2:4", "aliases"),
        ("a: !!python/object/apply:os.system [ls]\n", "a.yaml:1:4", "tag"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1", "second document"),
        ("[1]: 2\n", "a.yaml:1:1", "plain word"),
        ("a: 1e999\n", "a.yaml:1:4", "larger"),
        ("<<: {a: 1}\n", None, None),
    ],
)
def test_what_is_refused_names_line_and_column(text, place, word):
    if place is None:
        assert read(text) == {"<<": {"a": 1}}  # a merge is no magic here
        return
    with pytest.raises(BadInput) as caught:
        read(text)
    assert caught.value.where == place
    assert word in caught.value.what


@pytest.mark.parametrize(
    "text", ["with:\n\trounds: 1\n", "a: 1\n\tb: 2\n", "w:\r\n  a: 1\r\n\tb: 2\r\n", "a: 1\r\u2028\t@"]
)
def test_a_tab_that_indents_is_named(text: str) -> None:
    with pytest.raises(BadInput, match="indent with spaces"):
        read(text)


def test_control_characters_are_refused():
    with pytest.raises(BadInput, match="not valid YAML"):
        read("a: \x00")


def test_deep_nesting_is_refused_before_it_is_built():
    with pytest.raises(BadInput, match="deeper than 20"):
        read("[\n" * 500_000)
    with pytest.raises(BadInput, match=r"deeper than 20|nesting depth"):  # in one line, libyaml may say it first
        read("[" * 500_000)


def test_long_text_is_refused_before_it_is_parsed():
    with pytest.raises(BadInput, match="too many"):
        read("a" * (yamls.MAX_BYTES + 1))


def test_a_missing_part_is_located_by_what_is_around_it():
    document = yamls.load("a:\n  b:\n    - c: 1\n", name="a.yaml")
    assert document.where(("a", "b", 0, "c")) == "a.yaml:3:7"
    assert document.where(("a", "b", 0, "nothing")) == "a.yaml:3:7"
    assert document.where(("a", "b", 9)) == "a.yaml:2:3"
    assert document.where(("z",)) == "a.yaml:1:1"


def test_a_file_that_is_missing_or_not_text_or_too_large_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"gone\.yaml: no such file"):
        yamls.load_file(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: M\xfcller")
    with pytest.raises(BadInput, match=r"byte 7 is 0xfc"):
        yamls.load_file(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (yamls.MAX_BYTES + 1))
    with pytest.raises(BadInput, match="larger than"):
        yamls.load_file(tmp_path / "large.yaml")
    with pytest.raises(BadInput, match="cannot be read"):
        yamls.load_file(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfname: x\n")
    assert yamls.load_file(tmp_path / "bom.yaml").data == {"name": "x"}


@pytest.mark.parametrize("text", [".inf", "-.inf", "+.INF", ".nan", ".NaN"])
def test_a_number_that_is_not_finite_is_refused_where_it_stands_and_taken_as_text_in_quotes(text):
    with pytest.raises(BadInput, match="is not a finite number") as refused:
        yamls.load(f"config:\n  rate: {text}\n", name="job.yaml")
    assert refused.value.where == "job.yaml:2:9"
    assert yamls.load(f'rate: "{text}"\n', name="job.yaml").mapping() == {"rate": text}
