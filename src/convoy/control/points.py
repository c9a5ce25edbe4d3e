"""Points of live metrics: what each may be, the line of JSON that it is kept as, and which of many go first."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

PHASES: Final = ("train", "evaluate", "test")
MAX_VALUES: Final = 100  # values of one point; more belong into several calls
MAX_KEY: Final = 100  # characters of a key
MAX_STEP: Final = 1_000_000_000  # the highest step: 30 bits, and a step says nothing that a value may not say
MAX_POINTS: Final = 1000  # points of one message of a worker; a trainer of ours sends earlier

_NUMBER: Final = rb"-?(?:0|[1-9]\d{0,19})(?:\.\d{1,20})?(?:e[-+]?\d{1,3})?"
_VALUE: Final = rb'"(?:[ !#-\[\]-~]|\\(?:["\\/bfnrt]|u[0-9a-f]{4})){1,200}":' + _NUMBER
_LINE: Final = (
    rb'\{"n":(?:0|[1-9]\d{0,14}),"at":(?:0|[1-9]\d{0,10})\.\d{1,3},"round":(?:0|[1-9]\d{0,9}),'
    rb'(?:"step":(?:0|[1-9]\d{0,9}),)?'
    rb'(?:"phase":"(?:train|evaluate|test)",)?"values":\{(?:' + _VALUE + rb",){0,99}" + _VALUE + rb"\}\}\n"
)
_LINES: Final = re.compile(rb"(?>" + _LINE + rb")++")
_FIRST: Final = re.compile(rb'\{"n":(\d{1,15}),')
_SERIES: Final = re.compile(rb'(?:"phase":"[a-z]+",)?"values":\{.*')
_VALUES: Final = re.compile(rb":[-0-9.e+]+(?=[,}])")
_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Point:
    """Values that were measured together; `at` is seconds since the epoch, `number` counts the points of one site.

    `step` is None, and `phase` empty, where the code gives none.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None
    phase: str = ""
    round: int = 0
    at: float = 0.0
    number: int = 0


def problem(point: Point) -> str:
    """Return what is wrong with the values, the step or the phase of a point; empty: nothing."""
    if not 0 < len(point.values) <= MAX_VALUES:
        return f"a point has {len(point.values)} values; wanted 1 to {MAX_VALUES}"
    for key, value in point.values.items():
        if not (0 < len(key) <= MAX_KEY and key.isprintable()):
            return f"the key {key[:MAX_KEY]!r} is not 1 to {MAX_KEY} printable characters"
        if not math.isfinite(value):
            return f"{key} is {value}, which is not a finite number"
    if point.step is not None and not 0 <= point.step <= MAX_STEP:
        return f"the step is {point.step}; wanted a whole number from 0 to {MAX_STEP}"
    if point.phase not in ("", *PHASES):
        return f"the phase is {point.phase[:MAX_KEY]!r}; wanted {', '.join(PHASES)}, or none"
    return ""


def write(point: Point) -> bytes:
    """Return a point as a line of JSON in ASCII."""
    step = "" if point.step is None else f'"step":{point.step},'
    phase = f'"phase":"{point.phase}",' if point.phase else ""
    values = _ENCODE(dict(point.values))
    text = f'{{"n":{point.number},"at":{point.at:.3f},"round":{point.round},{step}{phase}"values":{values}}}\n'
    return text.encode()


def are_lines(data: bytes) -> bool:
    """Whether bytes from elsewhere are whole lines as `write` makes them; what they say is checked by `read`."""
    return _LINES.fullmatch(data) is not None


def read(line: bytes) -> Point | None:
    """Return the point of a line that `are_lines` accepts; None if it says what no point may say."""
    said = json.loads(line)
    found = Point(
        {key: float(value) for key, value in said["values"].items()},
        said.get("step"),
        said.get("phase", ""),
        said["round"],
        said["at"],
        said["n"],
    )
    return None if problem(found) else found


def number(line: bytes) -> int:
    """Return the number of a line; -1 for something else."""
    found = _FIRST.match(line)
    return int(found[1]) if found else -1


def place(data: bytes, wanted: int) -> int:
    """Return where the first line begins whose number is at least `wanted`, in lines of growing numbers."""
    low, high = 0, len(data)  # both begin a line
    while low < high:
        middle = data.rfind(b"\n", low, (low + high) // 2) + 1 or low
        if number(data[middle : middle + 24]) < wanted:
            low = data.find(b"\n", middle) + 1 or high
        else:
            high = middle
    return low


def thinned(lines: Sequence[bytes]) -> list[bytes]:
    """Return at most about half of some lines: of each series those that are spread most evenly, and the last line.

    A series is all points of the same phase and keys. Points that are far apart already, because earlier calls have
    thinned them, stay; so the curve of a long run keeps its shape from beginning to end.
    """
    series: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for index, line in enumerate(lines):
        found = _SERIES.search(line)
        if found is not None:
            series[_VALUES.sub(b"", found[0])].append((number(line), index))
    kept: list[int] = []
    for members in series.values():
        apart = (members[-1][0] - members[0][0]) / max(len(members) // 2, 1)
        after = -math.inf
        for at, index in members:
            if at >= after:
                kept.append(index)
                after = at + apart
    kept.sort()
    if 3 * len(kept) > 2 * len(lines):  # nearly each line is a series of its own
        kept = kept[::2]
    if lines and kept[-1:] != [len(lines) - 1]:
        kept.append(len(lines) - 1)
    return [lines[index] for index in kept]
