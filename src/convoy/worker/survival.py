"""A site's part of the workflows `kaplan_meier` and `cox`: counts and sums by intervals of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.errors import BadInput, Refused
from convoy.privacy import cells
from convoy.privacy.cells import SUPPRESSED
from convoy.worker.complete import Rows, Support, balanced, complete, enough, exact, extremes, opened, supported
from convoy.worker.replies import Reply

if TYPE_CHECKING:
    from convoy.worker.tasks import Task

Array = np.ndarray[Any, Any]


def survival(task: Task) -> Reply:
    """Return how many rows of each group have an event and how many are censored in each interval of time.

    The settings: `until` and `steps`: the intervals; `by` and `groups`. The reply, int64: `groups.count` (groups,), and
    `events.count`, `censored.count` (groups, steps), -1 for none and for what is suppressed. Where too few rows of an
    interval have an event, or are censored, these are counted in a later one, see `joined`. Raises `BadInput` and
    `Refused`.
    """
    given = task.settings
    table, rules = opened(task)
    groups, steps = given["groups"], given["steps"]
    events, censored = np.zeros((len(groups), steps), np.int64), np.zeros((len(groups), steps), np.int64)
    by = {given["by"]: groups} if given["by"] else {}
    for block in complete(table, [given["time"], given["event"]], by):
        place, died = _times(block, given)
        code = block.levels.argmax(1) if by else np.zeros(len(place), np.int64)
        np.add.at(events, (code[died], place[died]), 1)
        np.add.at(censored, (code[~died], place[~died]), 1)
    sizes = events.sum(1) + censored.sum(1)
    enough(int(sizes.sum()), task, rules)
    least = rules.minimum_count
    places = [_joined(one, other, least) for one, other in zip(events, censored, strict=True)]
    shown = cells.released(sizes, least, np.array([it is not None for it in places], bool))
    if not shown.any():
        raise Refused(
            f"no group of table {given['table']!r} may be released here",
            why=f"none has {least} rows with an event, or none, and as many without",
            fix="wait for more events, or leave out this site",
        )
    for group, at in enumerate(places):
        nothing = np.zeros((2, steps), np.int64)
        both = np.stack([events[group], censored[group]])
        events[group], censored[group] = nothing if at is None or not shown[group] else _moved(both, at)
    counts = {
        "groups": np.where(shown, sizes, 0),
        "events": events,
        "censored": censored,
    }
    return Reply({
        f"{name}.count": cells.rounded_counts(np.where(it > 0, it, SUPPRESSED), rules.digits, least)
        for name, it in counts.items()
    })  # fmt: skip


def cox(task: Task) -> Reply:
    """Return the sums over the rows at risk in each interval of time, for some coefficients.

    The model: `middle` and `scale` float64 (columns,), by which columns are standardised, and `beta` float64 (p,): of
    the columns, and the values of each categorical column but its first. The reply: `rows`, `smallest.count` int64
    (1,); `events.count`, `censored.count` int64 (steps,), -1 for none; `events.sum` float64 (p,): of the
    columns over all rows with an event; `risk.weight` float64 (steps,), `risk.first` (steps, p), `risk.second`
    (steps, p, p): of exp(x beta), times x, times x x^T. Raises `BadInput` and `Refused`.
    """
    given = task.settings
    table, rules = opened(task)
    exact(task, rules)
    steps, wanted = given["steps"], ([given["time"], given["event"], *given["columns"]], given["categories"])
    rows, low, high = extremes(complete(table, *wanted), len(wanted[0]))
    enough(rows, task, rules)
    support = Support(low[2:], high[2:], sum(map(len, given["categories"].values())) + 2)
    counts = np.zeros((2, steps), np.int64)  # with an event, and without
    for block in complete(table, *wanted):
        place, died = _times(block, given)
        np.add.at(counts, (np.where(died, 0, 1), place), 1)
        support.add(block.numbers[:, 2:], np.column_stack([block.levels, died, ~died]))
    smallest = supported(support.smallest(), task, rules)
    places = _joined(counts[0], counts[1], rules.minimum_count)
    assert places is not None  # noqa: S101 - `supported` has counted the events and the others
    moved = _moved(counts, places)
    return Reply(
        {
            "rows": np.array([rows], np.int64),
            "smallest.count": smallest,
            **{
                f"{name}.count": np.where(it > 0, it, SUPPRESSED)
                for name, it in zip(("events", "censored"), moved, strict=True)
            },
        }
        | _risk_sums(task, complete(table, *wanted), places)
    )


def _risk_sums(task: Task, blocks: Iterator[Rows], places: Array) -> dict[str, Array]:
    """Return the float arrays of the reply of `cox`; `places`: with which interval a row is counted."""
    given = task.settings
    middle, scale, beta = (np.asarray(task.model[name]) for name in ("middle", "scale", "beta"))
    first = np.cumsum([0, *map(len, given["categories"].values())])[:-1]
    width, steps, largest = len(beta), given["steps"], 0.0
    weight, once, twice = np.zeros(steps), np.zeros((steps, width)), np.zeros((steps, width, width))
    died_sum = np.zeros(width)
    for block in blocks:
        place, died = _times(block, given)
        x = np.column_stack([(block.numbers[:, 2:] - middle) / scale, np.delete(block.levels, first, axis=1)])
        share = np.exp(np.minimum(x @ beta, 500.0))  # finite also for coefficients that nobody would ask for
        largest = max(largest, float(share.max(initial=0.0)))
        died_sum += x[died].sum(0)
        at = np.where(died, *places[:, place])
        np.add.at(weight, at, share)
        np.add.at(once, at, x * share[:, None])
        for step in np.unique(at).tolist():
            mine = at == step
            twice[step] += (x[mine] * share[mine, None]).T @ x[mine]
    balanced(float(weight.sum()), largest, task)
    return {
        "events.sum": died_sum,
        "risk.weight": at_risk(weight),
        "risk.first": at_risk(once),
        "risk.second": at_risk(twice),
    }


def _moved(counts: Array, places: Array) -> Array:
    """Return counts, int64 (2, steps), each at the interval with which it is counted."""
    found = np.zeros_like(counts)
    for into, mine, rows in zip(found, places, counts, strict=True):
        np.add.at(into, mine, rows)
    return found


def at_risk(leaving: Array) -> Array:
    """Return sums over the rows that are still there at the beginning of each interval, float64 (steps, …).

    `leaving`: sums over the rows whose time lies in each interval, of the same shape.
    """
    found: Array = np.flip(np.cumsum(np.flip(leaving, 0), axis=0), 0)
    return found


def joined(counts: Array, minimum: int) -> Array | None:
    """Return with which interval each one is counted, int64 (steps,); None where there are some rows, and too few.

    `counts`: the rows in each interval, int64 (steps,). Neighbours are joined, from the first on, until they have
    `minimum` rows together, which count at the end of the last of them; too few at the end join the ones before them.
    """
    made: list[int] = []
    here, last = 0, 0
    for place, rows in enumerate(counts.tolist()):
        here, last = here + rows, place if rows else last
        if here >= max(minimum, 1):
            made.append(place)
            here = 0
    if here and not made:
        return None
    ends = np.array([*made[:-1], last] if here else made or [len(counts) - 1], np.int64)
    return ends[np.minimum(np.searchsorted(ends, np.arange(len(counts))), len(ends) - 1)]


def _joined(events: Array, censored: Array, minimum: int) -> Array | None:
    """Return with which interval rows with an event and censored rows are counted, int64 (2, steps), or None."""
    died, other = joined(events, minimum), joined(censored, minimum)
    if died is None or other is None or not (events.any() or censored.any()):
        return None
    return np.stack([died, other])


def _times(block: Rows, given: Any) -> tuple[Array, Array]:
    """Return the interval of each row's time, int64 (rows,), and whether it has an event. Raises `BadInput`."""
    time, event = block.numbers[:, 0], block.numbers[:, 1]
    for name, strange, what in (
        (given["time"], time < 0, "a negative time"),
        (given["event"], (event != 0) & (event != 1), "a value other than 0 (censored) and 1 (an event)"),
    ):
        if strange.any():
            where = int(block.places[np.argmax(strange)])
            raise BadInput(f"column {name!r} has {what}", why=f"row {where} of the table, the header not counted")
    edges = grid(given["until"], given["steps"])
    place = np.searchsorted(edges, time)  # an interval has its end, and not its beginning
    late = place == len(edges)
    return np.where(late, len(edges) - 1, place), (event == 1) & ~late


def grid(until: float, steps: int) -> Array:
    """Return the ends of equal intervals from 0 to `until`, float64 (steps,)."""
    found: Array = np.arange(1, steps + 1) * (until / steps)
    found[-1] = until
    return found
