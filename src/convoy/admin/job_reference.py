"""Which job a person means by an id, the beginning of one, or a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from convoy.errors import BadInput, NotFound

if TYPE_CHECKING:
    from convoy.admin.views import JobView

SHOWN: Final = 3  # of the newest jobs are named in the error
ENDED: Final = frozenset({"completed", "failed", "aborted"})


def job(text: str, jobs: Sequence[JobView]) -> str:
    """Return the id that is meant: by name that of the job that has not ended, else of the newest.

    The jobs come newest first, or those that have not ended before the others.

    Raises `NotFound` for none, and `BadInput` for more than one.
    """
    found = [job for job in jobs if job.name == text] or [job for job in jobs if job.id.startswith(text)]
    if not found or not text:
        newest = ", ".join(f"{job.id[:8]} {job.name}" for job in jobs[:SHOWN])
        raise NotFound(f"there is no job {text!r}", why=newest and f"the newest: {newest}", fix="convoy job list")
    named = found[0].name == text
    other = next((job for job in jobs if job.id.startswith(text) and job.name != text), None)
    if named and other is not None:
        raise BadInput(
            f"{text!r} is the name of a job, and the beginning of another one's id",
            why=f"the ids: {found[0].id} ({found[0].name}), {other.id} ({other.name})",
            fix="give more of an id",
        )
    going = [job for job in found if job.state not in ENDED]
    if named and len(going) < 2:
        return (going or found)[0].id
    if len(found) > 1:
        how, several = ("are called", going) if named else ("have ids that begin with", found)
        these = ", ".join(f"{job.id[:8]} ({job.state})" for job in several[:5])
        raise BadInput(f"{len(several)} jobs {how} {text!r}", why=these, fix="give more of an id")
    return found[0].id
