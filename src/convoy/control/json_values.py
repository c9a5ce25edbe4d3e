"""Questions and answers as plain JSON values, and back; and short JSON texts of others, within limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from convoy.control.costs import Cost
from convoy.control.records import Answer, Question, SiteName
from convoy.errors import BadInput, RemoteFault
from convoy.model.reply import Slot

MAX_JSON: Final = 64 << 10  # bytes of a question's settings, and of an answer's value
MAX_DEPTH: Final = 8  # lists and mappings within each other
_QUESTION: Final = tuple(it.name for it in fields(Question))


def of_question(question: Question) -> dict[str, Any]:
    """Return a question as JSON values. It is not copied: `asdict` would take ten times as long."""
    plain = {name: getattr(question, name) for name in _QUESTION}
    if question.reply is not None:
        plain["reply"] = [asdict(slot) for slot in question.reply]
    return plain


def question(kept: Mapping[str, Any]) -> Question:
    """Return the question that `of_question` wrote. Raises `TypeError` or `KeyError` for anything else."""
    reply = kept["reply"]
    slots = None if reply is None else tuple(Slot(it["name"], it["dtype"], tuple(it["shape"])) for it in reply)
    cohort = tuple(SiteName(site) for site in kept["cohort"])
    return Question(**{**kept, "reply": slots, "sites": tuple(kept["sites"]), "cohort": cohort})


def of_answer(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON values; it is not copied."""
    return {**answer._asdict(), "metrics": dict(answer.metrics), "cost": answer.cost.plain()}


def answer(kept: Mapping[str, Any]) -> Answer:
    """Return the answer that `of_answer` wrote. Raises `TypeError` for anything else."""
    return Answer(**{**kept, "metrics": dict(kept["metrics"]), "cost": Cost.read(kept.get("cost"))})


def read_json(text: str, what: str, *, most: int = MAX_JSON) -> Any:
    """Return what a short JSON text says. Raises `RemoteFault` for one that is too long, too deep, or not JSON."""
    if len(text) > most or len(text.encode(errors="replace")) > most:
        raise RemoteFault(f"{what} has {len(text)} characters", why=f"{most} bytes are the limit")
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as problem:
        raise RemoteFault(f"{what} is not JSON", why=str(problem)) from problem
    level, depth = [value], 0
    while level := [part for it in level if isinstance(it, dict | list) for part in _parts(it)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise RemoteFault(f"{what} is nested too deep", why=f"{MAX_DEPTH} levels are the limit")
    return value


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def write_json(value: Any, what: str, *, most: int = MAX_JSON) -> str:
    """Return a value as JSON text within the limits of `read_json`. Raises `BadInput`."""
    try:
        text = json.dumps(value, allow_nan=False)
        read_json(text, what, most=most)
    except (TypeError, ValueError, RecursionError) as problem:
        fix = "give text, finite numbers, true, false, None, lists and mappings of these"
        raise BadInput(f"{what} cannot be written as JSON", why=str(problem), fix=fix) from problem
    except RemoteFault as problem:
        raise BadInput(problem.what, why=problem.why) from problem
    return text


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")
