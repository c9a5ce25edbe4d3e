"""The page Policy: the site's policy in sentences, and whether a job would run here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from starlette.responses import Response

from convoy import errors
from convoy.dashboard import site_state
from convoy.dashboard.route import Route
from convoy.dashboard.site_state import Side, Turn
from convoy.errors import BadInput, ConvoyError
from convoy.owner import consent, words
from convoy.spec import yamls

MAX_PLACE: Final = 4096  # characters of a path, as long as Linux takes


async def policy(turn: Turn) -> Response:
    """Show the policy."""
    return await _page(turn)


async def watch(turn: Turn) -> Response:
    """Push the policy as it changes."""
    return site_state.push(turn, {"words": _words(turn)})


def _words(turn: Turn) -> site_state.Part:
    async def said(seen: Side) -> str:
        file = turn.kit.local / "policy.yaml"
        found = words.sections(seen.policy, turn.kit.name, turn.kit.org) if seen.policy is not None else []
        try:
            lines = (await asyncio.to_thread(yamls.read_text, file)).splitlines()
        except BadInput:  # the fault of the policy says so
            lines = []
        return turn.text("own/_policy.html", sections=found, lines=lines, file=file)

    return said


async def check(turn: Turn) -> Response:
    """Say whether the site would take a job folder or a signed bundle on this machine."""
    given, person = turn.form.get("place", "").strip()[:MAX_PLACE], turn.form.get("person", "")
    try:
        if not given or "\0" in given:
            raise BadInput("there is no path", fix="write the path of a job folder or of a bundle on this machine")
        if person not in consent.people(turn.kit):
            raise BadInput("the submitter is not listed in federation.json", fix="choose one of the list")
        found = await asyncio.to_thread(consent.judge, turn.kit, _expanded(given), person=person)
    except ConvoyError as problem:
        return await _page(turn, place=given, person=person, fault=problem)
    except OSError as problem:
        known = errors.of_files(problem) or BadInput(f"{given} cannot be read", why=str(problem), fix="check the path")
        return await _page(turn, place=given, person=person, fault=known)
    return await _page(turn, place=given, person=found.who.name, verdict=found)


def _expanded(given: str) -> Path:
    try:
        return Path(given).expanduser()
    except RuntimeError as problem:
        raise BadInput(
            f"{given} begins with a home folder that does not exist", fix="write the whole path"
        ) from problem


async def _page(turn: Turn, **values: Any) -> Response:
    try:
        people = await asyncio.to_thread(consent.people, turn.kit)
    except (ConvoyError, OSError):  # without federation.json nobody can be chosen
        people = []
    shown: dict[str, Any] = {"place": "", "person": "", "fault": None, "verdict": None}
    return turn.page("own/policy.html", words=await _words(turn)(turn.seen), people=people, **(shown | values))


ROUTES: Final = (
    Route("GET", "/policy", policy),
    Route("GET", "/policy/live", watch),
    Route("POST", "/policy/check", check),
)
