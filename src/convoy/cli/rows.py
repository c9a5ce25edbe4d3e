"""Rounds of a job, its sites in them and what their answers took, as rows of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from convoy.cli import output
from convoy.cli.progress import some

if TYPE_CHECKING:
    from convoy.admin import views

ROUND: Final = ("round", "metrics", "", "took part (weight)", "left out")
SPENT: Final = ("training", "processor", "memory", "GPU", "energy", "received / sent")
PHASES: Final = ("answered in", "fetching", "training", "checks", "processor", "memory")
PLACE: Final = ("norm", "cosine")
TOOK_PART: Final = ("took part", "weight", *PLACE, *PHASES)
LEFT_OUT: Final = ("left out", *PLACE, "reason")


def of_round(made: views.RoundView) -> tuple[object, ...]:
    """Return a round under the heads of `ROUND`."""
    took = [f"{one.site} ({_weight(one, made)})" for one in made.took_part]
    out = [f"{out.site}: {out.reason}" for out in made.left_out]
    return (
        made.round,
        output.metrics(made.metrics) if made.model else "not committed",
        "best" if made.best else "",
        some(took, made.took_part_count, ", ") or "-",
        some(out, made.left_out_count, "; ") or "-",
    )


def _weight(one: views.Contribution, made: views.RoundView) -> str:
    """Return a site's weight, and its share where it had more than all the others together."""
    total = sum(it.weight for it in made.took_part)
    alone = len(made.took_part) < 2 or len(made.took_part) < made.took_part_count  # the weights of some are not here
    share = "" if alone or one.weight * 2 <= total else f", {100 * one.weight / total:.0f} % of the round's weight"
    return f"{one.weight:g}{share}"


def took_part(one: views.Contribution, made: views.RoundView) -> tuple[str, ...]:
    """Return a site that took part in a round, under the heads of `TOOK_PART`."""
    return one.site, _weight(one, made), *_place(one), *_phases(one.cost)


def left_out(out: views.LeftOut) -> tuple[str, ...]:
    """Return a site that was left out of a round, under the heads of `LEFT_OUT`."""
    return out.site, *_place(out), out.reason


def spent(cost: views.CostView | None) -> tuple[str, ...]:
    """Return what all answers of a site took, under the heads of `SPENT`."""
    if cost is None:
        return ("",) * len(SPENT)
    moved = f"{output.size(cost.down)} / {output.size(cost.up)}"
    energy = f"{cost.energy_j / 3600:.2g} Wh" if cost.energy_j else ""
    return (
        _seconds(cost.train_s),
        _seconds(cost.cpu_s),
        output.size(cost.memory) if cost.memory else "",
        _seconds(cost.gpu_s),
        energy,
        moved,
    )


def _phases(cost: views.CostView | None) -> tuple[str, ...]:
    """Return what the answers of a site in one round took, under the heads of `PHASES`."""
    if cost is None:
        return ("",) * len(PHASES)
    times = (cost.took_s, cost.pull_s, cost.train_s, cost.release_s, cost.cpu_s)
    return (*map(_seconds, times), output.size(cost.memory) if cost.memory else "")


def _place(one: views.Contribution | views.LeftOut) -> tuple[str, str]:
    """Return where an update lies, under the heads of `PLACE`."""
    return "" if one.norm is None else f"{one.norm:.3g}", "" if one.cosine is None else f"{one.cosine:.2f}"


def _seconds(took: float) -> str:
    """Return seconds in words; nothing for 0: nobody measured it, or the site keeps it to itself."""
    return f"{took:.3g} s" if took else ""
