"""Trees of JAX (parameters of Flax, states of Optax) as a job's model or a site's state, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from convoy.errors import BadInput, not_installed
from convoy.model import fits

try:
    import jax
except ImportError as problem:
    raise not_installed(problem, "jax", extra="jax") from problem

__all__ = ["arrays", "load"]

FIX: Final = "let `model:` of job.yaml name a function that returns convoy.jax.arrays() of a tree of the same structure"


def arrays(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree as numpy arrays, by their paths, such as `params/Dense_0/kernel`.

    The tree is a nesting of mappings, lists, tuples and what else JAX knows, `flax.nnx.state(…)` among it; dtypes stay
    as they are, bfloat16 too. Raises `BadInput` for two leaves with the same path, and for one that is no array, such
    as a key of random numbers.
    """
    found: dict[str, Any] = {}
    for name, leaf in _leaves(tree)[0]:
        if name in found:
            raise BadInput(f"two leaves of the tree have the path {name!r}", fix="rename one of them")
        if jax.dtypes.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key):
            raise BadInput(
                f"the leaf {name!r} is a key of random numbers and cannot travel",
                fix="leave it out: of flax.nnx take nnx.state(model, nnx.Param)",
            )
        found[name] = np.asarray(leaf)
    return found


def load(tree: Any, model: Mapping[str, Any]) -> Any:
    """Return a tree of the same structure whose leaves are the arrays of a model, such as `task.model`.

    The leaves are JAX's, on the devices of the old ones; shapes without arrays do, too: `jax.eval_shape(init)` computes
    and compiles nothing. Raises `BadInput` for paths, shapes or dtypes that are not the tree's.
    """
    named, structure = _leaves(tree)
    have = {name: (np.dtype(leaf.dtype).name, tuple(leaf.shape)) for name, leaf in named}
    fits.check(have, model, of="this tree", fix=FIX)
    return jax.tree.unflatten(structure, [_placed(model[name], leaf) for name, leaf in named])


def _leaves(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    found, structure = jax.tree.flatten_with_path(tree)
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in found]
    return [(name, leaf if hasattr(leaf, "dtype") else np.asarray(leaf)) for name, leaf in named], structure


def _placed(array: Any, leaf: Any) -> Any:
    made = jax.numpy.array(array)  # a copy: JAX may otherwise go on reading the mapped file
    return jax.device_put(made, leaf.sharding) if isinstance(leaf, jax.Array) else made
