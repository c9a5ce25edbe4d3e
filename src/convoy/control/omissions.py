"""Why an answer does not count, as one of a few kinds: what people read in full, a counter needs in a word."""

from __future__ import annotations

from typing import Final, Literal

from convoy.control import events
from convoy.control.lateness import DEADLINE, PATIENCE, QUORUM
from convoy.control.records import Task

Kind = Literal["deadline", "quorum", "patience", "unusable", "refused", "uncounted", "removed"]
KINDS: Final[dict[Kind, str]] = {
    "deadline": "it did not come within the question's deadline",
    "quorum": "it did not come within the grace after the quorum",
    "patience": "the site made no progress for the job's patience",
    "unusable": "the trainer failed, or the update failed the server's checks",
    "refused": "the site had refused the job",
    "uncounted": "the workflow received it and did not count it",
    "removed": "the site was disabled, revoked or no longer listed",
}


def kind(task: Task, event: events.Event) -> Kind | None:
    """Return why a task that an event has just changed does not count; None for one that may."""
    if task.state == "uncounted":
        return "uncounted"
    if task.state != "left_out":
        return None
    if isinstance(event, events.Unusable):
        return "unusable"
    if task.reason.startswith("refused the job"):  # what follows is the site's own text
        return "refused"
    by_text: dict[str, Kind] = {PATIENCE: "patience", DEADLINE: "deadline", QUORUM: "quorum"}
    for words, found in by_text.items():
        if words in task.reason:
            return found
    return "removed"
