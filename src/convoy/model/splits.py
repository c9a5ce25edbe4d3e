"""Gradient boosting by histograms: gradients as integers, their sums by bin, the best splits, and a tree as it grows.

Chen, Guestrin: XGBoost: A Scalable Tree Boosting System, 2016. Sums of integers are exact: they do not depend on the
order of rows or on the site that holds them, so that any division of the same rows gives the same trees to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.model.trees import DTYPES, PER_TREE, Trees, union

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

FRACTION: Final = 30  # bits of a gradient or a hessian behind the point: 1e-9
HEADROOM: Final = 36  # bits of the largest one: 64 times the first gradient; what is larger counts as that
BLOCK: Final = 1 << 16  # rows summed at a time in float64: 2^16 values of 2^36 are still exact
MAX_LABEL: Final = 1e20  # of a number to learn: with the headroom of gradients, leaves stay below those of a model
LEAST_GAIN: Final = 1e-6  # XGBoost's own bound (kRtEps): what gains less is rounding


def gradients(objective: str, margin: Array, y: Array) -> tuple[Array, Array]:
    """Return the first and second derivatives of the loss of each row and output: float64 (rows, outputs).

    `margin` float64 (rows, outputs), `y` float32 (rows,). Chen & Guestrin, 2016, section 2.2, with XGBoost's losses:
    half of the squared error, or the logarithmic loss; for `multi:softprob` the hessian is 2 p (1 - p).
    """
    if objective == "reg:squarederror":
        return margin - y[:, None], np.ones_like(margin)
    p = probabilities(objective, margin)
    if objective == "binary:logistic":
        return p - y[:, None], p * (1 - p)
    return p - (np.arange(margin.shape[1]) == y[:, None]), 2 * p * (1 - p)


def probabilities(objective: str, margin: Array) -> Array:
    """Return what a margin says: a probability, those of all classes, or the number itself: float64, same shape."""
    if objective == "reg:squarederror":
        return margin
    if objective == "binary:logistic":
        found: Array = 1 / (1 + np.exp(-np.clip(margin, -500, 500)))
        return found
    grown = np.exp(margin - margin.max(axis=1, keepdims=True))
    shares: Array = grown / grown.sum(axis=1, keepdims=True)
    return shares


def whole(values: Array, exponent: int) -> Array:
    """Return values as int64 multiples of 2^(exponent - FRACTION), those beyond 2^HEADROOM of them as that many."""
    limited: Array = np.clip(np.ldexp(values, FRACTION - exponent), -(2.0**HEADROOM), 2.0**HEADROOM)
    return np.rint(limited).astype(np.int64)


def histogram(x: Array, cuts: Sequence[Array], slots: Array, sums: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """Return the sums of gradients and hessians by node, feature and bin: int64 (nodes, features, bins + 1, 2).

    `x` float32 (rows, features); `slots` int64 (rows, trees): the node that counts a row in each tree, -1 for none;
    `sums`: gradients and hessians, int64 (rows, trees). The last bin is that of missing values. `shape`: the result's.
    """
    nodes, _, bins, _ = shape
    found = np.zeros(shape, np.int64)
    for begin in range(0, len(x), BLOCK):
        rows = slice(begin, begin + BLOCK)
        place, tree = np.nonzero(slots[rows] >= 0)
        slot = slots[rows][place, tree]
        weights = [it[rows][place, tree].astype(np.float64) for it in sums]
        for feature, points in enumerate(cuts):
            column = x[rows, feature]
            bin_ = np.where(np.isnan(column), bins - 1, np.searchsorted(points, column, side="right"))
            flat = slot * bins + bin_[place]
            for which, weight in enumerate(weights):
                added = np.bincount(flat, weight, minlength=nodes * bins)
                found[:, feature, :, which] += added.reshape(nodes, bins).astype(np.int64)
    return found


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides on splits: XGBoost's parameters of the same names, and the power of two of the gradients' unit."""

    learning_rate: float = 0.3
    max_depth: int = 6
    reg_lambda: float = 1.0
    gamma: float = 0.0
    min_child_weight: float = 1.0
    exponent: int = 0

    def sums(self, integers: Array) -> Array:
        """Return sums of gradients and hessians, int64 (…, 2), as float64."""
        found: Array = np.ldexp(integers.astype(np.float64), [self.exponent - FRACTION, -FRACTION])
        return found

    def score(self, sums: Array) -> Array:
        """Return G^2 / (H + lambda), 0 where there is nothing to divide by (equation 6, without its half)."""
        g, h = sums[..., 0], sums[..., 1] + self.reg_lambda
        found: Array = np.divide(g * g, h, out=np.zeros_like(g), where=h > 0)
        return found

    def weight(self, sums: Array) -> float:
        """Return the value of a leaf: -G / (H + lambda), times the learning rate (equation 5).

        It is at most the largest gradient that is summed, times the learning rate: sums that a site made up change no
        margin by more than that.
        """
        below, most = float(sums[1]) + self.reg_lambda, math.ldexp(1.0, self.exponent + HEADROOM - FRACTION)
        step = -float(sums[0]) / below if below > 0 else 0.0
        return min(max(step, -most), most) * self.learning_rate


@dataclass(frozen=True, slots=True)
class Split:
    """The best split of a node: float64 (2,) sums of both sides."""

    feature: int
    threshold: float
    missing_left: bool
    left: Array
    right: Array


def best_split(counted: Array, cuts: Sequence[Array], rules: Rules) -> Split | None:
    """Return the split of a node that gains most, None if none gains enough; of equal ones the first.

    `counted` int64 (features, bins + 1, 2). The gain is equation 7 of Chen & Guestrin (2016) without its half, as in
    XGBoost, and must be above `gamma`. Missing values go to each side in turn (algorithm 3).
    """
    total = counted[0].sum(axis=0)
    left = np.cumsum(counted[:, :-2], axis=1)  # after each possible cut: int64 (features, bins - 1, 2)
    if not left.size:
        return None
    both = np.stack([left, left + counted[:, -1:]], axis=2)  # missing values to the right, to the left
    sides = rules.sums(both), rules.sums(total - both)
    gains = rules.score(sides[0]) + rules.score(sides[1]) - rules.score(rules.sums(total))
    lengths = np.array([len(it) for it in cuts])
    usable = (np.arange(left.shape[1]) < lengths[:, None])[:, :, None]
    for side in sides:
        usable = usable & (side[..., 1] > 0) & (side[..., 1] >= rules.min_child_weight)
    gains = np.where(usable, gains, -math.inf)
    feature, cut, way = map(int, np.unravel_index(int(np.argmax(gains)), gains.shape))
    if gains[feature, cut, way] <= max(rules.gamma, LEAST_GAIN):
        return None
    both_sides = [side[feature, cut, way] for side in sides]
    return Split(feature, float(cuts[feature][cut]), bool(way), both_sides[0], both_sides[1])


@dataclass(slots=True)
class Growth:
    """Trees as they grow, one for each output, a level at a time."""

    trees: int
    rules: Rules
    depth: int = 0
    open: list[tuple[int, int]] = field(default_factory=list)  # the nodes that may still be split: tree, place
    nodes: list[list[dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with a root for each tree."""
        self.nodes = [[_node(0.0)] for _ in range(self.trees)]
        self.open = [(tree, 0) for tree in range(self.trees)]

    @property
    def ended(self) -> bool:
        """Whether no node can be split any more."""
        return not self.open or self.depth == self.rules.max_depth

    def grow(self, counted: Array, cuts: Sequence[Array]) -> None:
        """Split the open nodes by their histograms, int64 (open, features, bins + 1, 2)."""
        following = []
        for (tree, place), one in zip(self.open, counted, strict=True):
            nodes, total = self.nodes[tree], self.rules.sums(one[0].sum(axis=0))
            split = best_split(one, cuts, self.rules)
            if split is None:
                nodes[place]["value"] = self.rules.weight(total)
                continue
            nodes[place] |= {
                "feature": split.feature, "threshold": split.threshold, "missing_left": split.missing_left,
                "left": len(nodes), "right": len(nodes) + 1, "value": 0.0,
            }  # fmt: skip
            for side in (split.left, split.right):
                following.append((tree, len(nodes)))
                nodes.append(_node(self.rules.weight(side)))
        self.open, self.depth = following, self.depth + 1

    def result(self) -> Trees:
        """Return the trees as they are now."""
        return union([_tree(nodes, group) for group, nodes in enumerate(self.nodes)], 1)

    def slots(self) -> Array:
        """Return for each node of the result its place among the open ones, -1 for none: int32 (nodes,)."""
        starts = np.cumsum([0, *map(len, self.nodes)])
        found = np.full(starts[-1], -1, np.int32)
        for number, (tree, place) in enumerate(self.open):
            found[starts[tree] + place] = number
        return found


def _node(value: float) -> dict[str, Any]:
    return {"feature": -1, "threshold": 0.0, "left": -1, "right": -1, "missing_left": False, "value": value}


def _tree(nodes: Sequence[dict[str, Any]], group: int) -> Trees:
    made = {
        name: np.array([node[name] for node in nodes], kind) for name, kind in DTYPES.items() if name not in PER_TREE
    }
    made["value"] = made["value"].reshape(-1, 1)
    return Trees(sizes=np.array([len(nodes)], np.int32), group=np.array([group], np.int32), **made)
