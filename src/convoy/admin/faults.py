"""Errors over HTTP: the client raises the same class with the same three lines as the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from convoy import errors


class LoginNeeded(errors.NotAllowed):
    """The bearer token is missing, unknown or expired; a client logs in again and repeats the request."""


STATUS: Final[Mapping[type[errors.ConvoyError], int]] = {
    errors.BadInput: 400,
    LoginNeeded: 401,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.Refused: 409,
    errors.JobFailed: 409,
    errors.RemoteFault: 422,
    errors.Bug: 500,
    errors.Unreachable: 503,
    errors.PatienceOut: 504,
    errors.StorageFull: 507,
    errors.ConvoyError: 500,
}
MAX_BYTES: Final = 1 << 20  # of an error that is read; one with a traceback has about 64 KiB
MAX_LINE: Final = 100_000  # characters of each line of an error
_BY_NAME: Final = {kind.__name__: kind for kind in STATUS}


def status_of(problem: errors.ConvoyError) -> int:
    """Return the HTTP status for an error: its own kind's, or that of the nearest kind above it in the tree."""
    return next(STATUS[kind] for kind in type(problem).__mro__ if kind in STATUS)


def to_json(problem: errors.ConvoyError) -> dict[str, str | int]:
    """Return the error as JSON: its kind, its three lines, where, and the exit code."""
    where = problem.where if isinstance(problem, errors.BadInput) else ""
    what = problem.what.removeprefix(f"{where}: ") if where else problem.what
    kind = next(kind for kind in type(problem).__mro__ if kind in STATUS).__name__
    return {
        "kind": kind,
        "what": what,
        "why": problem.why,
        "fix": problem.fix,
        "where": where,
        "code": problem.exit_code,
    }


def from_json(said: object, status: int) -> errors.ConvoyError:
    """Return the error that a server described; anything else, and a bug there, becomes a `RemoteFault`."""
    kind = said.get("kind") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(kind, str) or kind not in _BY_NAME:
        return errors.RemoteFault(
            f"the server answered {status} without saying why",
            fix="check that this is a Convoy server of your version: convoy status",
        )
    text = {key: _line(said.get(key, "")) for key in ("what", "why", "fix", "where")}
    made = _BY_NAME[kind]
    if made is errors.BadInput:
        return errors.BadInput(text["what"], why=text["why"], fix=text["fix"], where=text["where"])
    made = errors.RemoteFault if made in (errors.Bug, errors.ConvoyError) else made  # `Bug` means a bug on this side
    return made(text["what"], why=text["why"], fix=text["fix"])


def _line(said: object) -> str:
    """Return a text as one line of limited length; "" for what is none."""
    text = said[:MAX_LINE] if isinstance(said, str) else ""
    return " · ".join(filter(None, (part.strip() for part in text.splitlines())))
