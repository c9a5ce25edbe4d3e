"""What a trainer keeps at its site from task to task: held under the question that it was kept with."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from convoy.control.records import Answer
from convoy.errors import NotFound
from convoy.store.blobs import BlobFolder
from convoy.store.holds import Hold

HOLDER: Final = "state."  # and the question


def hold(answer: Answer) -> Hold:
    """Return who holds the state that goes with an answer, and its digest, which is empty where there is none."""
    return f"{HOLDER}{answer.question}", answer.state


def of(blobs: BlobFolder, after: str) -> str:
    """Return the digest of the state that was kept with the answer to a question; no question, no state.

    Raises `NotFound` if this site has it no more.
    """
    if not after:
        return ""
    kept = blobs.held(f"{HOLDER}{after}")
    if len(kept) != 1:
        raise NotFound(
            f"the state that this site kept with its answer to task {after} is not here any more",
            why="its disk has lost it, or the site has another working folder",
        )
    return next(iter(kept))


def past(blobs: BlobFolder, open_: Collection[str]) -> list[Hold]:
    """Return the states of questions that are not `open_`: they will never be those of a next task."""
    return [one for one in blobs.holds() if one[0].startswith(HOLDER) and one[0].removeprefix(HOLDER) not in open_]
