"""What commands make of a statistics.json: tables and pictures, whoever has written it."""

import json
import sys

import pytest

from convoy.cli import statistics
from convoy.cli.output import Screen
from convoy.errors import RemoteFault

SAID = {
    "columns": {
        "age": {"histogram": {"edges": [0.0, 10.0, 30.0], "counts": [10, 40], "below": 0, "above": 0}},
        "bmi": {"suppressed": "fewer than 10 rows"},
    },
    "correlation": {"columns": ["age", "bmi"], "matrix": [[1.0, {"suppressed": "…"}], [{"suppressed": "…"}, None]]},
    "tables": [
        {"title": "all rows: 50", "heads": ["column", "mean"], "rows": [["age", "17.5"], ["too", "many", "cells"]]},
        "no table",
    ],
}
LINE = {"label": "$a", "x": [0, 1], "y": [1.0, 0.5], "low": [1, 0.4], "high": [1, 0.6]}
PICTURES = [
    {"kind": "lines", "name": "survival", "x": "time", "steps": True, "lines": [LINE]},
    {"kind": "lines", "name": "clusters", "ticks": ["a", "b"], "lines": [{"x": [0, 1], "y": [2, 3]}]},
    {"kind": "bars", "name": "components", "labels": ["1", "2"], "heights": [0.7, 0.3]},
    {"kind": "intervals", "name": "fit", "labels": ["age"], "middle": [0.1], "low": [0.0], "high": [0.2]},
]


def test_tables_are_printed_and_what_is_no_table_is_not(capsys):
    statistics.say(Screen(), json.dumps(SAID).encode())
    assert capsys.readouterr().out.splitlines() == ["", "all rows: 50", "COLUMN  MEAN", "age     17.5"]


def test_what_a_hostile_job_writes_cannot_forge_lines_or_take_the_memory(capsys):
    forged = {"tables": [{"title": "a\nb\x1b[2J", "heads": ["h"], "rows": [["x\ny"]]}]}
    statistics.say(Screen(), json.dumps(forged).encode())
    assert len(capsys.readouterr().out.splitlines()) == 4
    for data in (b"[]", b"{", b"\xff", b'{"a": NaN}', b"[" * 500_000):
        with pytest.raises(RemoteFault, match=r"statistics\.json cannot be read"):
            statistics.say(Screen(), data)


def test_each_histogram_and_the_correlations_are_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "statistics.json").write_text(json.dumps(SAID))
    statistics.draw(Screen(), tmp_path)
    names = ["correlation-columns.png", "histogram-age.png"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == names
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert capsys.readouterr().out.count("a picture: ") == 2


def test_curves_bars_and_intervals_are_drawn_and_what_is_none_of_them_is_not(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    wrong = [
        {**PICTURES[0], "lines": [{**LINE, "low": [1]}]},
        {**PICTURES[0], "lines": [{**LINE, "y": [1.0, 1e301]}]},
        {**PICTURES[0], "lines": []},
        {**PICTURES[2], "heights": [1]},
        {**PICTURES[3], "low": ["0"]},
        {**PICTURES[3], "kind": ["bars"]},
        {"kind": "code", "name": "other"},
        "none",
    ]
    named = [{**it, "name": f"wrong-{place}"} if isinstance(it, dict) else it for place, it in enumerate(wrong)]
    (tmp_path / "statistics.json").write_text(json.dumps({"pictures": [*named, *PICTURES]}))
    statistics.draw(Screen(), tmp_path)
    names = ["bars-components.png", "intervals-fit.png", "lines-clusters.png", "lines-survival.png"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == names
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_without_matplotlib_there_is_a_note_with_the_extra_and_no_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "statistics.json").write_text(json.dumps(SAID))
    statistics.draw(Screen(), tmp_path)
    assert "pip install 'convoy-fl[demo]'" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.png"))
