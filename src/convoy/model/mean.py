"""The weighted mean of updates, in which no single one decides.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data, 2017, algorithm 1 (the server's line): w ← Σ nₖ/n · wₖ. The bound on the distance is that of Sun, Kairouz, Suresh,
McMahan: Can You Really Backdoor Federated Learning?, 2019, section 4, as a multiple of the round's median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import BadInput
from convoy.model import arrays as _arrays
from convoy.model import bounds, schema
from convoy.model.clipped import Clipped
from convoy.model.fold import Folder
from convoy.model.spread import cosines
from convoy.model.update import Update

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

DECIDES: Final = 0.5 * (1 + 1e-9)  # the share from which on one update outweighs all others, up to its rounding

Rule = Callable[[Sequence[Mapping[str, "Array"]], Sequence[str]], dict[str, "Array"]]  # models, tensors -> their fold


@dataclass(slots=True)
class _Entry:
    """What counts of an update."""

    site: str
    weight: float
    metrics: Mapping[str, float]
    leave_out: Callable[[str], None]
    remark: Callable[[str], None]
    lies: Callable[[float, float], None]
    model: Mapping[str, Array] | None  # mapped files: they take no memory until `result`; None: metrics count alone
    apart: float  # L2 norm of (update - like), divided by `steps`
    steps: float  # by which its share in the arrays is divided, and not that in the metrics


class Mean:
    """The mean of updates, weighted by their weights; its bits are a function of the updates and of their order.

    Nothing finite overflows. A tensor that has the same bits in every update keeps them, whatever its dtype; where that
    are the bits of `like` it is the very array of `like`. The mean of integers is rounded, that of truth values is the
    majority's. An update whose weight is not a number from 0 up, or whose values are not finite, is left out, and so is
    one that stands out by its distance; `left_out` says why. If all the others have weight 0, the mean is `like`.
    """

    def __init__(
        self,
        like: Mapping[str, Array],
        *,
        max_share: float = bounds.SHARE,
        max_norm_ratio: float = bounds.RATIO,
        clip: float = 0.0,
        rule: Rule | None = None,
    ) -> None:
        """Prepare for updates with the names, shapes and dtypes of `like`, the model that they began from.

        `max_share`: the most that one weight may be of the sum of all; what is above counts as that much. It holds from
        three updates on; of two each may have 0.99. 1: no bound. `max_norm_ratio`: an update that is farther from
        `like` than so many times the median update is left out, if three or more moved (L2 norm, floats alone). 0: none
        is. `clip`: an update that is farther from `like` than so many times the median update is shortened to that
        distance, if three or more moved; integers and truth values are not. 0: none is. `rule`: what folds the arrays
        of the updates that count in place of the weighted mean; it gets them in the order of their sites' names, and
        the names of the tensors that somebody changed. Metrics keep the weighted mean.
        Raises `BadInput` for bounds outside of these ranges.
        """
        if not 0 < max_share <= 1:
            raise BadInput(f"max_share is {max_share!r}", fix="give a share above 0 and up to 1, which is no bound")
        if not 0 <= max_norm_ratio < math.inf:
            raise BadInput(f"max_norm_ratio is {max_norm_ratio!r}", fix="give a number from 0 up; 0 is no bound")
        self.left_out: dict[str, str] = {}  # why, by site
        if not clip >= 0:
            raise BadInput(f"clip is {clip!r}", fix="give a number from 0 up; 0 is no bound")
        self._like = like
        self._shapes = _arrays.shapes(like)
        self._distances = schema.Distances(like)
        self._max_share = max_share
        self._max_norm_ratio = max_norm_ratio
        self._clip = clip
        self._rule = rule
        self._entries: list[_Entry] = []
        self._count = 0
        self._done = False

    def __len__(self) -> int:
        return self._count

    @property
    def weight(self) -> float:
        """The sum of the weights as the sites gave them, without the updates that had no usable one."""
        return sum(entry.weight for entry in self._entries)

    def add(self, update: Update, *, steps: float = 1.0) -> None:
        """Take one update in. Raises `Refused` if its tensors are not those of `like`, `BadInput` after `result`.

        `steps`: what the steps behind it amount to, above 0. Its distance is divided by them before it is compared with
        those of the others, and its share of the arrays after `max_share` has bounded its weight.
        """
        self._open()
        schema.check_shapes(_arrays.shapes(update.model), self._shapes)
        self._count += 1
        if not self._usable(update):
            return
        apart = self._apart(update)
        if math.isnan(apart):
            self._leave_out(update, "its values are not finite")
            return
        self._enter(update, update.model, apart / steps, steps)

    def add_metrics(self, update: Update) -> None:
        """Take in an update's metrics alone, and not its arrays. Raises `BadInput` after `result`."""
        self._open()
        self._count += 1
        if self._usable(update):
            self._enter(update, None, 0.0, 1.0)

    def _enter(self, of: Update, model: Mapping[str, Array] | None, apart: float, steps: float) -> None:
        said = (of.leave_out, of.remark, of.lies)
        self._entries.append(_Entry(of.site, of.weight, of.metrics, *said, model, apart, steps))

    def _open(self) -> None:
        if self._done:
            raise BadInput("this mean has given its result", fix="make a new Mean for each round")

    def _usable(self, update: Update) -> bool:
        if math.isfinite(update.weight) and update.weight >= 0:
            return True
        self._leave_out(update, f"its weight is {update.weight}, not a number from 0 up")
        return False

    def _apart(self, update: Update) -> float:
        """Return the update's distance, inf if it is larger than any float, and NaN if its values are not finite."""
        moved = [name for name in self._like if not _arrays.same(update.model, self._like, name)]
        apart = self._distances.of(update.model, moved)
        if math.isfinite(apart):
            return apart
        return math.inf if all(schema.is_finite(update.model[name]) for name in moved) else math.nan

    def _leave_out(self, update: Update | _Entry, reason: str) -> None:
        if update.site not in self.left_out:
            self.left_out[update.site] = reason
            update.leave_out(reason)

    def _near(self) -> tuple[list[_Entry], float]:
        """Return the entries that have a weight and are near enough, and the distance beyond which none is."""
        heavy = [entry for entry in self._entries if entry.weight > 0]
        bound = bounds.farthest([entry.apart for entry in heavy], self._max_norm_ratio)
        return [entry for entry in heavy if entry.apart <= bound], bound

    def _counted(self) -> tuple[list[_Entry], list[float], float]:
        """Return the entries that count, each with a weight above 0, and the distance beyond which none does."""
        near, bound = self._near()
        limited = bounds.limited([entry.weight for entry in near], self._max_share)
        pairs = [(entry, weight) for entry, weight in zip(near, limited, strict=True) if weight > 0]
        return [entry for entry, _ in pairs], [weight for _, weight in pairs], bound

    @property
    def counted(self) -> tuple[list[Mapping[str, Array]], list[float]]:
        """The arrays of the updates that count, and their weights, each above 0; none after `result`."""
        entries, weights, _ = self._counted()
        pairs = [(it.model, weight) for it, weight in zip(entries, weights, strict=True) if it.model is not None]
        return [model for model, _ in pairs], [weight for _, weight in pairs]

    @property
    def metrics(self) -> dict[str, float]:
        """The weighted mean of each metric over the counted sites that gave it as a finite number."""
        means: dict[str, tuple[float, float]] = {}  # name -> (mean, sum of weights)
        entries, weights, _ = self._counted()
        for entry, weight in zip(entries, weights, strict=True):
            for name, value in entry.metrics.items():
                if math.isfinite(value):
                    mean, total = means.get(name, (value, 0.0))
                    means[name] = _between(mean, value, weight / (total + weight)), total + weight
        return {name: mean for name, (mean, _) in sorted(means.items())}

    def result(self) -> dict[str, Array]:
        """Return the mean, in the order of `like`; nothing can be added after it.

        A tensor that no update changed is the read-only array of `like` itself. Raises `BadInput` without any update,
        and what the rule raises.
        """
        self._open()
        if self._like and not self._count:
            raise BadInput("there is no mean", why="no update was added")
        entries, weights, bound = self._counted()
        self._tell(entries, weights, bound)
        self._done = True
        if self._rule is not None:  # no weight decides who counts, nor does the order of answers
            entries = sorted(self._near()[0], key=lambda entry: entry.site)
            weights = [1.0] * len(entries)
        longest = bounds.farthest([entry.apart for entry in self._entries if entry.weight > 0], self._clip)
        folded = [(entry.model, entry.apart) for entry in entries if entry.model is not None]
        pairs = zip(entries, weights, strict=True)
        shares = [weight / entry.steps for entry, weight in pairs if entry.model is not None]
        changed = [name for name in self._like if not all(_arrays.same(it, self._like, name) for it, _ in folded)]
        models = [it if apart <= longest else Clipped(it, self._like, longest / apart) for it, apart in folded]
        made = self._folded(models, shares, changed)
        self._place(made, changed)
        return made

    def _folded(
        self, models: Sequence[Mapping[str, Array]], shares: Sequence[float], changed: Sequence[str]
    ) -> dict[str, Array]:
        """Return what the models make of `like`."""
        if self._rule is not None and models:
            return dict(self._like) | self._rule(models, changed)
        folder, made = Folder(), dict(self._like)
        for name in changed:
            flat = [model[name].reshape(-1) for model in models]
            made[name] = folder.fold(flat, shares).reshape(made[name].shape)
        return made

    def _place(self, made: Mapping[str, Array], changed: Sequence[str]) -> None:
        """Say where each update lies, those that do not count too, and keep none of their files open."""
        came = [(entry, entry.model, entry.apart * entry.steps) for entry in self._entries if entry.model is not None]
        found = (
            cosines([it for _, it, _ in came], [norm for _, _, norm in came], self._like, made, changed) if came else []
        )
        for (entry, _, norm), cosine in zip(came, found, strict=True):
            if math.isfinite(norm):
                entry.lies(norm, cosine)
            entry.model = None

    def _tell(self, entries: Sequence[_Entry], weights: Sequence[float], bound: float) -> None:
        """Say which updates do not count, and which count for less than their sites say."""
        for entry in self._entries:
            if entry.weight and entry.apart > bound:
                divided = "" if entry.steps == 1 else f", divided by the {entry.steps:.4g} steps that it amounts to"
                self._leave_out(
                    entry,
                    f"its update is {entry.apart:.3g} away from the model (L2{divided}), and more than "
                    f"{self._max_norm_ratio:g} times the median of the round, {bound / self._max_norm_ratio:.3g}, "
                    "does not count",
                )
        if not entries:
            for entry in self._entries:
                self._leave_out(entry, "no update of the round has a weight above 0: the model stays as it was")
            return
        before = bounds.normalised([entry.weight for entry in entries])
        whole, total = math.fsum(before), math.fsum(weights)
        for entry, weight, own in zip(entries, weights, before, strict=True):
            share, decides = weight / total, self._rule is None and len(entries) > 1 and weight > DECIDES * total
            more = "; it decides the round, as it outweighs all the others together" if decides else ""
            if share < own / whole * (1 - 1e-9):
                entry.remark(
                    f"its weight {entry.weight:g} is {100 * own / whole:.3g} % of all weights together and "
                    f"counts as {100 * share:.3g} %, the most that one site may have (max_share){more}"
                    + ("; in the metrics alone: the fold of the arrays ignores weights" if self._rule else "")
                )
            elif decides:
                entry.remark(f"its weight {entry.weight:g} is {100 * share:.3g} % of all weights together{more}")


def _between(mean: float, value: float, part: float) -> float:
    """Return mean + (value - mean)·part, without an overflow."""
    apart = value - mean
    return mean + apart * part if math.isfinite(apart) else mean * (1 - part) + value * part
