"""`statistics.json`: the answers of the sites about their tables, combined for people and for programs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convoy.flows import pooled
from convoy.flows.pooled import Moments, Pair, Parts
from convoy.store import report

SINGLE: Final = ("count", "missing", "sum", "mean", "variance", "std", "min", "max")
KNOWN: Final = (*SINGLE, "histogram", "quantiles", "correlation")
SHOWN_BINS: Final = 40  # of a histogram that has a table for people

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job asks for."""

    table: str
    columns: Sequence[str]
    statistics: Sequence[str]
    by: str
    bins: int
    ranges: Mapping[str, Sequence[float]]
    quantiles: Sequence[float]


@dataclass(frozen=True, slots=True)
class FromSite:
    """The answer of one site: its arrays, whose rows are first all rows and then each of its groups.

    `groups`: the row of each group, from 1.
    """

    site: str
    groups: Mapping[str, int]
    arrays: Mapping[str, Array]

    def place(self, group: str | None) -> int | None:
        """Return the row of a group, 0 for all rows; None if the site does not have it."""
        return 0 if group is None else self.groups.get(group)

    def parts(self, group: str | None, column: int) -> Parts:
        """Return the parts of a column."""
        place = self.place(group)
        mine = self.arrays["parts.column"] == column
        mine = mine & (self.arrays["parts.group"] == (-2 if place is None else place - 1))
        return Parts(*(self.arrays[f"parts.{name}"][mine] for name in ("low", "high", "count")))


def made(
    asked: Asked, answers: Sequence[FromSite], left_out: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the document, and the arrays `rows`, `count`, `mean` and `m2` of all rows and of each group.

    A statistic that no site releases is `{"suppressed": why}`. Where some sites release it and others do not, it is
    over the rows of those that do, and `suppressed_at` names the others.
    """
    groups: list[str | None] = [None, *sorted({name for one in answers for name in one.groups})]
    described = [_described(asked, answers, group) for group in groups]
    result: dict[str, Any] = {
        "table": asked.table,
        "sites": [one.site for one in answers],
        "left_out": dict(left_out),
        "rows": described[0]["rows"],
        "columns": described[0]["columns"],
    }
    if asked.by:
        result["by"] = asked.by
        result["groups"] = dict(zip(groups[1:], described[1:], strict=True))
    if "correlation" in asked.statistics:
        result["correlation"] = _correlations(asked, answers)
    result["tables"] = _tables(asked, result)
    cells = [[_moments(answers, group, column) for column in range(len(asked.columns))] for group in groups]
    arrays: dict[str, Array] = {"rows": np.array([_rows(answers, group)[0] for group in groups], np.int64)}
    for name, kind in (("count", np.int64), ("mean", np.float64), ("m2", np.float64)):
        arrays[name] = np.array([[getattr(cell, name) for cell in row] for row in cells], kind)
    return result, arrays


def _released(
    answers: Sequence[FromSite], name: str, group: str | None, column: int | None = None
) -> list[tuple[FromSite, int]]:
    """Return the sites that release a count, and the row of it."""
    found = [(one, place) for one in answers if (place := one.place(group)) is not None]
    return [(one, at) for one, at in found if one.arrays[name][at if column is None else (at, column)] >= 0]


def _rows(answers: Sequence[FromSite], group: str | None) -> tuple[int, list[str]]:
    """Return how many rows there are, -1 if no site releases it, and the sites that do not."""
    these = _released(answers, "rows", group)
    away = sorted({one.site for one in answers} - {one.site for one, _ in these})
    return (sum(int(one.arrays["rows"][at]) for one, at in these) if these else -1), away


def _moments(answers: Sequence[FromSite], group: str | None, column: int) -> Moments:
    """Return the moments over all sites that release them; count -1 if none does."""
    these = _released(answers, "moments.count", group, column)
    each = [
        Moments(*(one.arrays[f"moments.{name}"][at, column].item() for name in ("count", "mean", "m2")))
        for one, at in these
    ]
    return pooled.moments(each) if each else Moments(-1, 0.0, 0.0)


def _why(answers: Sequence[FromSite]) -> dict[str, str]:
    least = sorted({int(one.arrays["minimum"][0]) for one in answers})
    return {"suppressed": f"fewer than {' or '.join(map(str, least))} rows" if least else "no site has answered"}


def _described(asked: Asked, answers: Sequence[FromSite], group: str | None) -> dict[str, Any]:
    rows, away = _rows(answers, group)
    found = {name: _column(asked, answers, group, place) for place, name in enumerate(asked.columns)}
    return {"rows": _why(answers) if rows < 0 else rows, **({"suppressed_at": away} if away else {}), "columns": found}


def _column(asked: Asked, answers: Sequence[FromSite], group: str | None, column: int) -> dict[str, Any]:
    """Return the statistics of one column, in the order in which they are asked for."""
    of, these = _moments(answers, group, column), _released(answers, "moments.count", group, column)
    if of.count < 0:
        return dict(_why(answers))
    spread = of.variance
    single: dict[str, Any] = {
        "count": of.count,
        "missing": sum(max(int(one.arrays["rows"][at]) - int(one.arrays["moments.count"][at, column]), 0)
                       for one, at in these),
        "sum": of.mean * of.count,
        "mean": of.mean,
        "variance": spread,
        "std": None if spread is None else math.sqrt(spread),
        **_extremes(these, column),
    }  # fmt: skip
    found = {name: single[name] for name in asked.statistics if name in single}
    if {"histogram", "quantiles"} & {*asked.statistics}:
        parts = _joined([one.parts(group, column) for one in answers])
        if "quantiles" in asked.statistics:
            found["quantiles"] = [_quantile(parts, q, answers) for q in asked.quantiles]
        if "histogram" in asked.statistics:
            ends = asked.ranges.get(asked.columns[column])
            bars = pooled.histogram(parts, asked.bins, None if ends is None else (float(ends[0]), float(ends[1])))
            found["histogram"] = _why(answers) if bars is None else {
                "edges": bars.edges.tolist(), "counts": bars.counts.tolist(), "below": bars.below, "above": bars.above
            }  # fmt: skip
    away = sorted({one.site for one in answers} - {one.site for one, _ in these})
    return found | ({"suppressed_at": away} if away else {})


def _extremes(these: Sequence[tuple[FromSite, int]], column: int) -> dict[str, Any]:
    kept = [one.site for one, _ in these if not one.arrays["extremes"][0]]
    if kept:
        why = f"the policy of {', '.join(kept)} does not release it"
        return {name: {"suppressed": why} for name in ("min", "max")}
    return {
        "min": min(float(one.arrays["moments.min"][at, column]) for one, at in these),
        "max": max(float(one.arrays["moments.max"][at, column]) for one, at in these),
    }


def _joined(each: Sequence[Parts]) -> Parts:
    if not each:
        return Parts(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    return Parts(*(np.concatenate([getattr(one, name) for one in each]) for name in ("low", "high", "count")))


def _quantile(parts: Parts, q: float, answers: Sequence[FromSite]) -> dict[str, Any]:
    ends = pooled.quantile(parts, q)
    if ends is None:
        return {"q": q, **_why(answers)}
    return {"q": q, "value": ends[0] / 2 + ends[1] / 2, "from": ends[0], "to": ends[1]}


def _correlations(asked: Asked, answers: Sequence[FromSite]) -> dict[str, Any]:
    """Return the matrix, and for each pair of columns the sites that suppress it where others do not."""
    away: list[dict[str, Any]] = []

    def of(first: int, second: int) -> Any:
        each = [one.arrays for one in answers if one.arrays["pairs.count"][first, second] >= 0]
        if not each:
            return _why(answers)
        if len(each) < len(answers):
            sites = [one.site for one in answers if one.arrays["pairs.count"][first, second] < 0]
            away.append({"columns": [asked.columns[first], asked.columns[second]], "sites": sites})
        found = pooled.correlation([
            Pair(
                int(it["pairs.count"][first, second]),
                (float(it["pairs.mean"][first, second]), float(it["pairs.mean"][second, first])),
                (float(it["pairs.m2"][first, second]), float(it["pairs.m2"][second, first])),
                float(it["pairs.comoment"][first, second]),
            )
            for it in each
        ])  # fmt: skip
        return 1.0 if first == second and found is not None else found

    width = range(len(asked.columns))
    upper = {pair: of(*pair) for pair in itertools.combinations_with_replacement(width, 2)}
    matrix = [[upper[min(a, b), max(a, b)] for b in width] for a in width]
    return {"columns": list(asked.columns), "matrix": matrix, "suppressed_at": away}


def written(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays with a document among them, which is the job's `statistics.json`."""
    text = json.dumps(document, allow_nan=False).encode()
    return {**arrays, report.STATISTICS: np.frombuffer(text, np.uint8)}


# ---- for people ------------------------------------------------------------------------------------------------------
def _tables(asked: Asked, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return tables of text: what the columns are, for all rows and each group; histograms; correlations.

    Each has a title, heads, rows, and notes on what sites have suppressed.
    """
    return [*_described_tables(asked, result), *_histograms(asked, result), *_correlation_table(asked, result)]


def _described_tables(asked: Asked, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    single = [name for name in asked.statistics if name in SINGLE]
    points = [f"{100 * q:g} %" for q in asked.quantiles] if "quantiles" in asked.statistics else []
    if not single and not points:
        return
    groups = result.get("groups", {})
    for title, part in (("all rows", result), *groups.items()):
        name = title if part is result else f"{asked.by} = {title}"
        rows, notes = [], dict[str, None]()
        for column, it in part["columns"].items():
            rows.append([column, *_line(it, single, points)])
            notes |= dict.fromkeys(_notes(column, it))
        yield {
            "title": f"{name}: {text_of(part['rows'])}",
            "heads": ["column", *single, *points],
            "rows": rows,
            "notes": list(notes),
        }
    if asked.by:
        shown = sum(it["rows"] for it in groups.values() if isinstance(it["rows"], int))
        if isinstance(result["rows"], int) and shown < result["rows"]:
            note = f"{shown} of {result['rows']} rows are in groups that sites release; the others are suppressed"
            yield {"title": f"groups by {asked.by}", "heads": ["note"], "rows": [[note]], "notes": []}


def _histograms(asked: Asked, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for column, it in result["columns"].items():
        bars = it.get("histogram", {})
        bins = len(bars.get("counts", ()))
        if 0 < bins <= SHOWN_BINS:
            ends = zip(bars["edges"], bars["edges"][1:], bars["counts"], strict=False)
            rows = [[text_of(low), text_of(high), text_of(count)] for low, high, count in ends]
            few = f"{bins} bins in place of {asked.bins}: a site releases no bin with fewer rows than its policy wants"
            notes = [few] if 2 * bins < asked.bins else []
            yield {
                "title": f"histogram of {column}", "heads": ["from", "to below", "rows"], "rows": rows, "notes": notes
            }  # fmt: skip


def _correlation_table(asked: Asked, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "correlation" in result:
        rows = [
            [column, *map(_cell, row)]
            for column, row in zip(asked.columns, result["correlation"]["matrix"], strict=True)
        ]
        away = [
            f"{' and '.join(dict.fromkeys(it['columns']))}: without {', '.join(it['sites'])}, where it is suppressed"
            for it in result["correlation"]["suppressed_at"]
        ]
        yield {"title": "correlation", "heads": ["", *asked.columns], "rows": rows, "notes": away}


def _line(it: Mapping[str, Any], single: Sequence[str], points: Sequence[str]) -> list[str]:
    if "suppressed" in it:
        return [_cell(it)] * (len(single) + len(points))
    return [*(_cell(it[name]) for name in single), *map(_interval, it.get("quantiles", ()))]


def _interval(it: Mapping[str, Any]) -> str:
    """Return a quantile, and the interval in which it lies."""
    if "value" not in it:
        return _cell(it)
    return text_of(it["value"]) + ("" if it["from"] == it["to"] else f" ({text_of(it['from'])} to {text_of(it['to'])})")


def _notes(column: str, it: Mapping[str, Any]) -> Iterator[str]:
    """Yield why statistics of a column are suppressed, and at which sites alone they are."""
    if "suppressed" in it:
        yield f"{column}: {text_of(it)}"
    for name, value in it.items():
        if isinstance(value, Mapping) and "suppressed" in value:
            yield f"{name}: {text_of(value)}"
    if it.get("suppressed_at"):
        yield f"{column}: without {', '.join(it['suppressed_at'])}, where it is suppressed"


def _cell(value: Any) -> str:
    return "suppressed" if isinstance(value, Mapping) else text_of(value)


def text_of(value: Any) -> str:
    """Return a number in six digits, or why there is none."""
    if isinstance(value, Mapping):
        return f"suppressed: {value['suppressed']}"
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"
