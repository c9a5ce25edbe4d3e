"""The states that a trainer keeps at its site, each stored under the id of the question that it was returned for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from convoy.control.records import Answer
from convoy.errors import NotFound
from convoy.store.blobs import BlobFolder
from convoy.store.holds import Hold

HOLDER: Final = "state."  # and the question


def hold(answer: Answer) -> Hold:
    """Return the holder and the digest of an answer's state; the digest is empty if there is none."""
    return f"{HOLDER}{answer.question}", answer.state


def of(blobs: BlobFolder, after: str) -> str:
    """Return the digest of the state that was stored with the answer to a question; "" without a question.

    Raises `NotFound` if this site does not have it any more.
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
    """Return the states of questions that are not `open_`, which no later task can continue from."""
    return [one for one in blobs.holds() if one[0].startswith(HOLDER) and one[0].removeprefix(HOLDER) not in open_]
