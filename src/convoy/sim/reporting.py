"""What is told of a round as soon as it is committed: as a dict for programs, and as a line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.control.records import Round
from convoy.control.view import ReadOnlyJob
from convoy.errors import by_reason
from convoy.spec import cross_metrics

SHOWN: Final = 3  # reasons in a line


def told_of(job: ReadOnlyJob, made: Round) -> dict[str, Any]:
    """Return a round: its number of how many, metrics, how many sites took part, and who was left out and why."""
    return {
        "round": made.round,
        "rounds": job.record.rounds,
        "metrics": dict(made.metrics),
        "best": made.best,
        "took_part": len(made.took_part),
        "left_out": dict(made.left_out),
    }


def line(made: Mapping[str, Any]) -> str:
    """Return a round in one line."""
    out = made["left_out"]
    parts = [f"round {made['round']}/{made['rounds'] or '?'}"]
    parts += [cross_metrics.one_line(made["metrics"])] if made["metrics"] else []
    parts += [f"{made['took_part']} took part"] if made["took_part"] else []
    reasons = by_reason(out.items())
    parts += [f"left out {said}" for said in reasons[:SHOWN]]
    parts += [f"{len(reasons) - SHOWN} more reasons"] if len(reasons) > SHOWN else []
    return "  ".join(parts) + ("  (best)" if made["best"] else "")
