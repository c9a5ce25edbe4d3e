"""Decision trees as named arrays: their layout, the check of trees from outside, their union, what they say of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convoy.errors import Refused

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

MAX_DEPTH: Final = 64  # levels below the root: rows are routed level by level, and no useful tree is as deep
MAX_TREES: Final = 100_000  # of one model: each row passes all of them
MAX_NODES: Final = 2**22  # of one answer, 100 MB: 4,000 trees of 1,000 nodes each
MAX_VALUE: Final = 1e30  # of a leaf: the sum over all trees stays a finite float32

# What the leaves of a model mean. The first three are the names of XGBoost's objectives: the output is a sum of leaves.
SUMS: Final = ("reg:squarederror", "binary:logistic", "multi:softprob")
MEANS: Final = ("mean", "vote")  # of a random forest: the mean of its leaves, numbers or shares of classes
KINDS: Final = (*SUMS, *MEANS)

DTYPES: Final = {
    "sizes": "i4", "group": "i4", "feature": "i4", "threshold": "f4", "left": "i4", "right": "i4",
    "missing_left": "?", "value": "f4",
}  # fmt: skip
PER_TREE: Final = ("sizes", "group")
NODE_BYTES: Final = 17  # of all arrays of a node but its values
ABOUT: Final = "about"  # int64 (3,): the place in KINDS, the number of features, the number of outputs


@dataclass(frozen=True, slots=True)
class Trees:
    """Binary trees, their nodes one after the other; a tree's first node is its root, and children follow their parent.

    `sizes` int32 (trees,): nodes of each tree. `group` int32 (trees,): the output that a tree adds to, 0 but for
    `multi:softprob`. For each node, `feature` int32: the column that it looks at, -1 at a leaf; `threshold` float32: a
    row goes left if its float32 value is smaller; `left`, `right` int32: places within the tree, -1 at a leaf;
    `missing_left` bool: where NaN goes. `value` float32 (nodes, width): what a leaf adds, 0 elsewhere.
    """

    sizes: Array
    group: Array
    feature: Array
    threshold: Array
    left: Array
    right: Array
    missing_left: Array
    value: Array

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def starts(self) -> Array:
        """The place of each tree's root among all nodes, int64 (trees,)."""
        return np.cumsum(self.sizes, dtype=np.int64) - self.sizes

    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return the arrays by name."""
        return {prefix + it.name: getattr(self, it.name) for it in fields(self)}

    def part(self, first: int, last: int | None = None) -> Trees:
        """Return the trees from number `first` to before number `last`."""
        ends = np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])
        low, high = int(ends[first]), int(ends[len(self) if last is None else last])
        cut = {name: slice(first, last) if name in PER_TREE else slice(low, high) for name in DTYPES}
        return Trees(**{name: getattr(self, name)[cut[name]] for name in DTYPES})

    def scaled(self, factor: float) -> Trees:
        """Return the trees with their values multiplied in float64."""
        return replace(self, value=(self.value * np.float64(factor)).astype(np.float32))


def of(arrays: Mapping[str, Array], prefix: str = "") -> Trees:
    """Return the trees that arrays by name hold; none where there are no arrays."""
    if prefix + "sizes" not in arrays:
        return union([], 1)
    return Trees(**{name: arrays[prefix + name] for name in DTYPES})


def union(parts: Sequence[Trees], width: int) -> Trees:
    """Return all trees, in the order of the parts; `width` is that of the values where there is no part."""
    if not parts:
        return Trees(**{name: np.zeros((0, width) if name == "value" else 0, kind) for name, kind in DTYPES.items()})
    return Trees(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in DTYPES})


def leaf(values: Sequence[float], group: int = 0) -> Trees:
    """Return one tree that is a leaf."""
    made = {name: np.full(1, -1, kind) for name, kind in DTYPES.items() if name not in ("missing_left", "value")}
    made |= {"sizes": np.ones(1, np.int32), "group": np.full(1, group, np.int32), "threshold": np.zeros(1, np.float32)}
    return Trees(**made, missing_left=np.zeros(1, bool), value=np.array([values], np.float32))


def about(kind: str, features: int, outputs: int) -> Array:
    """Return the array that says what a model of trees is: int64 (3,)."""
    return np.array([KINDS.index(kind), features, outputs], np.int64)


def slots(width: int) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """Return the arrays of an answer of trees, as `fleet.ask(reply=…)` takes them."""
    return {name: (kind, (None, width) if name == "value" else (None,)) for name, kind in DTYPES.items()}


def check(
    trees: Trees, *, kind: str, features: int, outputs: int, count: int = MAX_TREES, depth: int = MAX_DEPTH
) -> None:
    """Check trees from outside, with numpy alone. Raises `Refused` with the first thing that is wrong.

    `kind`: one of `KINDS`; `count`: the most trees; `depth`: the most levels below a root.
    """
    sizes, nodes = trees.sizes.astype(np.int64), len(trees.feature)
    _demand(len(trees) <= count, f"there are {len(trees)} trees; {count} are the limit")
    _demand(nodes <= MAX_NODES, f"there are {nodes} nodes; {MAX_NODES} are the limit")
    _demand(len(trees.group) == len(sizes), "`group` and `sizes` differ in length")
    lengths = {len(getattr(trees, name)) for name in DTYPES if name not in PER_TREE}
    _demand(lengths == {nodes}, "the arrays of nodes differ in length")
    _demand(bool((sizes > 0).all()) and int(sizes.sum()) == nodes, "`sizes` is not a division of the nodes")
    groups = outputs if kind == "multi:softprob" else 1
    _demand(bool(((trees.group >= 0) & (trees.group < groups)).all()), f"a tree's group is not one of {groups}")
    inner = trees.feature >= 0
    _demand(bool((trees.feature >= -1).all()), "a feature is below -1")
    _demand(bool((trees.feature < features).all()), f"a node looks at a feature beyond the {features} that there are")
    _demand(bool(np.isfinite(trees.threshold).all()), "a threshold is not finite")
    _demand(bool((abs(trees.value) <= MAX_VALUE).all()), "a value is not finite, or too large")  # NaN is not below
    _demand(not trees.value[inner].any(), "a node that is no leaf has a value")
    if kind == "vote":
        sums = trees.value[~inner].sum(axis=1, dtype=np.float64)
        fair = bool((trees.value >= 0).all()) and bool((abs(sums - 1) < 1e-3).all())
        _demand(fair, "the shares of the classes at a leaf are not from 0 up, with a sum of 1")
    _check_shape(trees, inner, sizes, depth)


def _check_shape(trees: Trees, inner: Array, sizes: Array, depth: int) -> None:
    """Check that each node but the roots is the child of one node before it, and is not too deep."""
    starts, nodes = np.repeat(trees.starts, sizes), len(inner)
    own = np.arange(nodes) - starts
    for side in (trees.left, trees.right):
        _demand(bool((side[~inner] == -1).all()), "a leaf has a child")
        fits = (side[inner] > own[inner]) & (side[inner] < np.repeat(sizes, sizes)[inner])
        _demand(bool(fits.all()), "a child is not behind its parent in the same tree")
    children = np.concatenate([(starts + side)[inner] for side in (trees.left, trees.right)])
    parents = np.bincount(children, minlength=nodes)
    parents[trees.starts] += 1
    _demand(bool((parents == 1).all()), "a node has no parent, or several")
    level = trees.starts
    for _ in range(depth + 1):
        level = level[inner[level]]
        if not len(level):
            return
        level = np.concatenate([starts[level] + trees.left[level], starts[level] + trees.right[level]])
    raise Refused(f"a tree has more than {depth} levels")


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Refused(f"these are no usable trees: {otherwise}")


def of_model(arrays: Mapping[str, Array]) -> tuple[Trees, str, int, int]:
    """Return the trees of a model, checked; their kind, the number of features and of outputs. Raises `Refused`."""
    said = arrays.get(ABOUT)
    if said is None or said.shape != (3,) or not 0 <= said[0] < len(KINDS) or not (said[1:] > 0).all():
        raise Refused("this model has no trees", why=f"it has the arrays {', '.join(arrays) or 'of nothing'}")
    kind, features, outputs = KINDS[said[0]], int(said[1]), int(said[2])
    trees = of(arrays)
    check(trees, kind=kind, features=features, outputs=outputs)
    return trees, kind, features, outputs


def ends(trees: Trees, x: Array) -> Array:
    """Return the place of the leaf in which each row ends in each tree: int64 (rows, trees); `x` float32 (rows, f)."""
    found = np.empty((len(x), len(trees)), np.int64)
    for number, start in enumerate(trees.starts):
        place = np.full(len(x), start)
        rows = np.arange(len(x)) if trees.feature[start] >= 0 else np.arange(0)
        while len(rows):
            at = place[rows]
            value = x[rows, trees.feature[at]]
            left = np.where(np.isnan(value), trees.missing_left[at], value < trees.threshold[at])
            at = start + np.where(left, trees.left[at], trees.right[at])
            place[rows] = at
            rows = rows[trees.feature[at] >= 0]
        found[:, number] = place
    return found


def margins(trees: Trees, x: Array, begin: Array) -> Array:
    """Return float64 (rows, outputs): `begin`, and each row's leaves added one by one in the order of the trees."""
    found = begin.copy()
    for number, group in enumerate(trees.group):
        one = trees.part(number, number + 1)
        found[:, group] += one.value[ends(one, x)[:, 0], 0]
    return found


def means(trees: Trees, x: Array) -> Array:
    """Return the mean of the leaves of each row: float64 (rows, width)."""
    found = np.zeros((len(x), trees.value.shape[1]))
    for number in range(len(trees)):
        one = trees.part(number, number + 1)
        found += one.value[ends(one, x)[:, 0]]
    return found / max(len(trees), 1)
