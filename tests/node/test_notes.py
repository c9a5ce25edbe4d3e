"""What a node's admins are shown of its warnings and errors, and what its log holds."""

import json

import pytest
import structlog

from convoy.node.process import Notes, set_up

FORGED = "no\n2026-01-01T00:00:00Z [info     ] registered \x1b]52;c;eA==\x07 \u202e"


@pytest.fixture
def logging():
    yield structlog.get_logger
    structlog.reset_defaults()


def test_a_problem_is_told_with_its_reason_and_whom_it_is_about():
    notes = Notes()
    notes(None, "warning", {"timestamp": "T", "level": "warning", "event": "refused", "reason": "no", "site": "site-1"})
    notes(None, "error", {"timestamp": "T", "event": "lost", "exc_info": True})
    notes(None, "info", {"event": "nothing"})
    assert list(notes.newest) == ["T warning: refused: no (site=site-1)", "T error: lost"]


def test_a_value_forges_no_line_of_a_log(logging, capfd):
    notes = Notes()
    set_up("text", notes)
    logging().error("a job failed", reason=FORGED, exc_info=ValueError(FORGED))
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == lines[:1]
    assert not [line for line in lines if "\x1b" in line or "\u202e" in line]
    assert len(notes.newest) == 1
    assert "\n" not in notes.newest[0]


def test_a_log_for_machines_stays_json(logging, capfd):
    set_up("json", Notes())
    logging().warning("refused", reason=FORGED)
    assert json.loads(capfd.readouterr().err)["reason"].startswith("no\\n2026")


def test_lines_for_machines_say_which_node_wrote_them_and_which_round_they_are_about(logging, capfd):
    set_up("json", Notes(), node="site-1", site="site-1")
    logging().warning("no answer", job="a" * 32, question="7.2")
    logging().info("registered")
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert (first["site"], first["job"], first["round"]) == ("site-1", "a" * 32, 7)
    assert (second["node"], "round" in second) == ("site-1", False)


def test_lines_for_people_do_not_repeat_whose_they_are(logging, capfd):
    set_up("text", Notes(), node="site-1")
    logging().info("registered")
    assert "site-1" not in capfd.readouterr().err
