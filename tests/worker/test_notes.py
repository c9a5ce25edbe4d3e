"""What a node's admins are shown of its warnings and errors."""

from convoy.worker.node import Notes


def test_a_problem_is_told_with_its_reason_and_whom_it_is_about():
    notes = Notes()
    notes(None, "warning", {"timestamp": "T", "level": "warning", "event": "refused", "reason": "no", "site": "site-1"})
    notes(None, "error", {"timestamp": "T", "event": "lost", "exc_info": True})
    notes(None, "info", {"event": "nothing"})
    assert list(notes.newest) == ["T warning: refused: no (site=site-1)", "T error: lost"]
