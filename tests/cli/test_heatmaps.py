"""Metrics of models at sites: tables and heat maps."""

import pytest

from convoy.cli import heatmaps, output
from convoy.cli.output import Screen
from convoy.spec import cross_metrics

MEASURED = {"rows": 9.0, "auc:(job)@a": 0.5, "auc:a@a": 0.9, "auc:a@b": 0.7, "loss:a@b": 2.0, "auc:b@b": 0.8}


def test_metrics_of_models_at_sites_are_tables_and_one_line_says_how_many_there_are(capsys):
    assert output.metrics(MEASURED) == "rows 9  5 metrics of models at sites"
    assert cross_metrics.name("auc", "(job)", "a") in MEASURED
    heatmaps.say(Screen(), MEASURED)
    assert capsys.readouterr().out.splitlines() == [
        "", "auc of each model at each site",
        "MODEL  A    B", "(job)  0.5  -", "a      0.9  0.7", "b      -    0.8",
        "", "loss of each model at each site", "MODEL  B", "a      2",
    ]  # fmt: skip


def test_each_table_is_a_heat_map_and_other_metrics_are_none(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    heatmaps.draw(Screen(), tmp_path, MEASURED | {"a$^b:x@y": 1.0})
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "heatmap-a_b.png", "heatmap-auc.png", "heatmap-loss.png",
    ]  # fmt: skip
    assert "a picture: " in capsys.readouterr().out
    heatmaps.draw(Screen(), tmp_path / "nothing", {"loss": 1.0})
    heatmaps.say(Screen(), {"loss": 1.0})
    assert capsys.readouterr().out == ""
