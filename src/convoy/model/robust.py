"""Folds that a minority of malicious updates cannot decide, by the names that a job.yaml gives them.

With n answers that count, of which f may be anything (their arrays are then arbitrary, finite values):

- `median`, of each coordinate, and `trimmed`, the mean of each coordinate without its f lowest and f highest values:
  Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning, 2018, definitions 1 and 2.
- `krum`, the update whose n - f - 2 nearest are nearest to it, and `multikrum`, the mean of the n - f best of them:
  Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries, 2017, sections 4 and 5 with m = n - f.
- `bulyan`, of n - 2f updates that Krum chose one by one, the mean of the n - 4f values of each coordinate that are
  nearest to their median: El Mhamdi, Guerraoui, Rouault: The Hidden Vulnerability of Distributed Learning in Byzantium,
  2018, section 4.
- `geometric`, the geometric median: Pillutla, Kakade, Harchaoui: Robust Aggregation for Federated Learning, 2019,
  algorithm 2, the smoothed Weiszfeld algorithm.

None of them takes the weights of the sites into account, since whoever may send any arrays may send any weight; the
mean of metrics remains weighted. An update of weight 0 does not count, as in `Mean`. Distances are those of floats
alone. Updates are folded in the order of their sites' names, which decides ties: the order of answers changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import BadInput, JobFailed
from convoy.model import bounds
from convoy.model.fold import NARROWEST, Folder
from convoy.model.mean import Mean
from convoy.model.order import Sorter, slices, widened

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]
    Models = Sequence[Mapping[str, Array]]
    Folded = dict[str, Array]

PAIRED: Final = 1 << 14  # items of one update at least, where each two are compared: they are not copied
SMOOTH: Final = 1e-6  # of the median distance: Weiszfeld's divisor is at least this much
FIRST: Final = 0.1  # the same of the first pass: the median of coordinates may be an update, which would hold it there
PASSES: Final = 20  # over all updates; from the median of coordinates, three to ten are the rule
STILL: Final = 1e-3  # a pass that changes no share of the geometric median by more is the last


@dataclass(frozen=True, slots=True)
class Rule:
    """How n updates are folded of which f may be malicious, and that n is at least `times`·f + `plus`."""

    fold: Callable[[Models, Sequence[str], int], Folded]
    times: int
    plus: int


def fold_of(
    name: str,
    like: Mapping[str, Array],
    *,
    attackers: int | None = None,
    max_share: float = bounds.SHARE,
    max_norm_ratio: float = bounds.RATIO,
    clip: float = 0.0,
) -> Mean:
    """Return what folds the updates of one round in the way of that name; see `Mean`, whose interface it has.

    `attackers`: f, how many updates may be malicious; None: as many as the rule tolerates among the answers that count.
    `max_norm_ratio` holds before every fold: who is left out is not among the n of its condition. `clip` shortens the
    others before every fold, too. `max_share` holds for `mean`, and for the metrics of the others. `result` raises
    `JobFailed` where n is too small for f. Raises `BadInput` for a name that is none.
    """
    if name not in FOLDS:
        raise BadInput(f"there is no fold {name!r}", why=f"they are {', '.join(FOLDS)}")
    rule = partial(_fold, name, attackers) if name in RULES else None
    return Mean(like, max_share=max_share, max_norm_ratio=max_norm_ratio, clip=clip, rule=rule)


def needed(name: str, attackers: int | None = None) -> int:
    """Return how many answers a fold needs at least, against so many attackers."""
    return 1 if name not in RULES else RULES[name].times * (attackers or 0) + RULES[name].plus


def condition(name: str) -> str:
    """Return the condition of a robust fold, such as `n >= 2f + 3`."""
    return f"n >= {RULES[name].times}f + {RULES[name].plus}"


def _fold(name: str, attackers: int | None, models: Models, names: Sequence[str]) -> Folded:
    """Return the fold of these tensors. Raises `JobFailed` if there are too few models."""
    count, rule = len(models), RULES[name]
    if count < needed(name, attackers):
        against = f" of which {attackers} may be malicious" if attackers else ""
        raise JobFailed(
            f"{name} cannot fold {count} answers{against}",
            why=f"it needs {condition(name)}: n = {count} answers count, f = {attackers or 0}, so n must be "
            f"{needed(name, attackers)} or more",
            fix="wait for more sites (min_sites), or name fewer `attackers`; answers that were left out do not count",
        )
    return rule.fold(models, names, (count - rule.plus) // rule.times if attackers is None else attackers)


# ---- by coordinates --------------------------------------------------------------------------------------------------
def _median(models: Models, names: Sequence[str], _: int) -> Folded:
    """Return the median of each coordinate; of an even number of integers the rounded mean of the two in the middle.

    Truth values are the majority's, False if there is none.
    """
    return _between(models, names, (len(models) - 1) // 2, len(models) // 2 + 1)


def _trimmed(models: Models, names: Sequence[str], attackers: int) -> Folded:
    """Return the mean of each coordinate without its lowest and highest values; integers are rounded."""
    return _between(models, names, attackers, len(models) - attackers)


def _between(models: Models, names: Sequence[str], first: int, last: int) -> Folded:
    """Return the mean of the sorted values of each coordinate from place `first` up to and without `last`."""
    sorter, mean = Sorter(len(models), first, last), _plain_mean(last - first)
    return _by_slices(models, names, lambda parts: mean(sorter.sort(parts)))


def _nearest(models: Models, names: Sequence[str], keep: int) -> Folded:
    """Return the mean of the `keep` values of each coordinate that are nearest to its median; the lower ones of a tie.

    Sorted, they are neighbours. They begin one place higher for each value that is farther below the median than the
    one that would take its place is above.
    """
    count = len(models)
    sorter, mean, middle = Sorter(count, 0, count), _plain_mean(keep), _plain_mean(2 - count % 2)

    def fold(parts: Sequence[Array]) -> Array:
        rows = sorter.sort(parts)
        wide = [row.astype(np.float64) if row.dtype.kind in "iub" else row for row in rows]
        center = middle(wide[(count - 1) // 2 : count // 2 + 1])
        begin = np.zeros(center.size, np.intp)
        with np.errstate(over="ignore"):
            for low, high in zip(wide[: count - keep], wide[keep:], strict=True):
                begin += center - low > high - center
        picked = []
        for place in range(keep):
            row = rows[place]
            for later in range(1, count - keep + 1):
                row = np.where(begin == later, rows[place + later], row)
            picked.append(row)
        return mean(picked)

    return _by_slices(models, names, fold)


def _plain_mean(count: int) -> Callable[[Sequence[Array]], Array]:
    """Return what makes the unweighted mean of so many slices."""
    folder, ones = Folder(), [1.0] * count
    return lambda rows: rows[0] if count == 1 else folder.fold(rows, ones)


def _by_slices(models: Models, names: Sequence[str], fold: Callable[[Sequence[Array]], Array]) -> Folded:
    """Return what `fold` makes of each tensor, called with a slice of all models at a time."""
    folded: Folded = {}
    for name in names:
        first = models[0][name]
        flat = [model[name].reshape(-1) for model in models]
        out = np.empty(first.size, first.dtype)
        for part in slices(first.size, len(models)):
            out[part] = fold([one[part] for one in flat]).astype(first.dtype, copy=False)
        folded[name] = out.reshape(first.shape)
    return folded


# ---- by distances ----------------------------------------------------------------------------------------------------
def _krum(models: Models, names: Sequence[str], attackers: int) -> Folded:
    """Return the update that has the smallest sum of squared distances to its n - f - 2 nearest others."""
    return _chosen(models, names, _ranked(distances(models, names), range(len(models)), attackers)[:1])


def _multikrum(models: Models, names: Sequence[str], attackers: int) -> Folded:
    """Return the mean of the n - f updates that Krum would choose first."""
    ranked = _ranked(distances(models, names), range(len(models)), attackers)
    return _chosen(models, names, ranked[: len(models) - attackers])


def _bulyan(models: Models, names: Sequence[str], attackers: int) -> Folded:
    """Return the mean of the values nearest to the median of the updates that Krum chooses one after the other."""
    apart, left = distances(models, names), list(range(len(models)))
    chosen: list[int] = []
    while len(chosen) < len(models) - 2 * attackers:
        best = _ranked(apart, left, attackers)[0]
        chosen.append(best)
        left.remove(best)
    return _nearest([models[place] for place in sorted(chosen)], names, len(models) - 4 * attackers)


def _chosen(models: Models, names: Sequence[str], places: Sequence[int]) -> Folded:
    return _weighted([models[place] for place in sorted(places)], names, [1.0] * len(places))


def _weighted(models: Models, names: Sequence[str], weights: Sequence[float]) -> Folded:
    folder = Folder()
    return {
        name: folder.fold([model[name].reshape(-1) for model in models], weights).reshape(models[0][name].shape)
        for name in names
    }


def _ranked(apart: Sequence[Sequence[float]], places: Sequence[int], attackers: int) -> list[int]:
    """Return the places by Krum's score, the best first; those of equal scores by their order.

    With s places, a score is made of the s - f - 2 smallest distances to others, and of one if that is less.
    """
    closest = max(len(places) - attackers - 2, 1)
    scores = {
        one: math.hypot(*sorted(apart[one][other] for other in places if other != one)[:closest]) for one in places
    }
    return sorted(places, key=lambda one: (scores[one], one))


def distances(models: Models, names: Sequence[str]) -> list[list[float]]:
    """Return the L2 norm of the difference of each two models over these tensors, floats alone.

    It is right to six digits of float32 and inf where it is larger than any float. Reads the models once.
    """
    apart = [[0.0] * len(models) for _ in models]
    for parts in _float_slices(models, names, PAIRED):
        buffer = np.empty(parts[0].size, np.float64)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            for one, mine in enumerate(map(widened, parts)):
                for other in range(one):
                    apart[one][other] = math.hypot(apart[one][other], _norm(mine, widened(parts[other]), buffer))
    for one in range(len(models)):
        for other in range(one):
            apart[other][one] = apart[one][other]
    return apart


def _float_slices(models: Models, names: Sequence[str], narrowest: int = NARROWEST) -> Iterator[list[Array]]:
    """Yield slices of all models at a time, tensor by tensor, without integers and truth values."""
    for name in names:
        flat = [model[name].reshape(-1) for model in models]
        if flat[0].dtype.kind not in "iub":
            for part in slices(flat[0].size, len(models), narrowest):
                yield [one[part] for one in flat]


def _norm(one: Array, other: Array, buffer: Array) -> float:
    """Return the L2 norm of a difference; squares that are too large or too small for a type are not lost."""
    if one.dtype == np.float32:
        apart = np.subtract(one, other, out=buffer.view(np.float32)[: one.size])
        squares = float(apart.dot(apart))
        if 1e-12 < squares < math.inf:
            return math.sqrt(squares)
    apart = np.subtract(one, other, out=buffer, dtype=np.float64)
    squares = float(apart.dot(apart))
    if 1e-200 < squares < math.inf:
        return math.sqrt(squares)
    top = float(np.abs(apart, out=apart).max(initial=0.0))
    if top in (0.0, math.inf):
        return top
    apart /= top
    return top * math.sqrt(float(apart.dot(apart)))


# ---- the geometric median --------------------------------------------------------------------------------------------
def _geometric(models: Models, names: Sequence[str], _: int) -> Folded:
    """Return the mean in which each update has the weight 1 / its distance from that mean, found by repetition.

    It begins at the median of coordinates, which no minority can move far away; integers and truth values take the
    same weights in the end. The smoothing is relative to the distances, so that the scale of a model does not matter.
    """
    count = len(models)
    sorter, middle = Sorter(count, (count - 1) // 2, count // 2 + 1), _plain_mean(2 - count % 2)
    shares = _shares(_from_center(models, names, lambda parts: middle(sorter.sort(parts))), FIRST)
    for _pass in range(PASSES):
        mean = partial(_mean_of, Folder(), shares)
        before, shares = shares, _shares(_from_center(models, names, mean), SMOOTH)
        if max(abs(new - old) for new, old in zip(shares, before, strict=True)) <= STILL:
            break
    counted = [place for place, share in enumerate(shares) if share > 0]
    return _weighted([models[place] for place in counted], names, [shares[place] for place in counted])


def _mean_of(folder: Folder, shares: Sequence[float], parts: Sequence[Array]) -> Array:
    counted = [place for place, share in enumerate(shares) if share > 0]
    return folder.fold([parts[place] for place in counted], [shares[place] for place in counted])


def _from_center(models: Models, names: Sequence[str], center: Callable[[Sequence[Array]], Array]) -> list[float]:
    """Return the L2 norm of each model's difference from a center, which is made slice by slice."""
    apart = [0.0] * len(models)
    for parts in _float_slices(models, names):
        wide, buffer = [widened(part) for part in parts], np.empty(parts[0].size, np.float64)
        here = center(wide)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            apart = [math.hypot(so_far, _norm(part, here, buffer)) for so_far, part in zip(apart, wide, strict=True)]
    return apart


def _shares(apart: Sequence[float], smooth: float) -> list[float]:
    """Return weights that sum to 1, each in proportion to 1 / max(distance, smoothing), in multiples of the median."""
    median = sorted(apart)[(len(apart) - 1) // 2]
    if median == 0:  # half of the updates are the same
        inverse = [float(distance == 0) for distance in apart]
    elif median == math.inf:
        inverse = [1.0] * len(apart)
    else:
        inverse = [1 / max(distance / median, smooth) for distance in apart]
    total = math.fsum(inverse)
    return [each / total for each in inverse]


RULES: Final[Mapping[str, Rule]] = {
    "median": Rule(_median, 2, 1),
    "trimmed": Rule(_trimmed, 2, 1),
    "krum": Rule(_krum, 2, 3),
    "multikrum": Rule(_multikrum, 2, 3),
    "bulyan": Rule(_bulyan, 4, 3),
    "geometric": Rule(_geometric, 2, 1),
}
FOLDS: Final = ("mean", *RULES)
