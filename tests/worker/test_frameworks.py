"""Trees of JAX and models of Keras as a job's model, and back: to the bit, or an error with the names."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.errors import BadInput
from convoy.model import frameworks
from convoy.model.arrays import Model

# ---- JAX -------------------------------------------------------------------------------------------------------------
jax = pytest.importorskip("jax")
import convoy.jax  # noqa: E402 - it needs JAX

kinds = st.sampled_from(["float32", "bfloat16", "float16", "int32", "uint8", "bool"])
leaves = st.builds(lambda kind, size: jax.numpy.arange(size).astype(kind), kinds, st.integers(0, 4))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


@given(trees)
@settings(max_examples=50)
def test_a_tree_comes_back_to_the_bit_with_its_structure(tree):
    model = Model(frameworks.to_arrays(convoy.jax.arrays(tree)))
    for like in (tree, jax.eval_shape(lambda: tree)):
        again = convoy.jax.load(like, model)
        assert jax.tree.structure(again) == jax.tree.structure(tree)
        for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(tree), strict=True):
            assert isinstance(one, jax.Array)
            assert one.dtype == other.dtype
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_parameters_of_flax_and_states_of_optax_have_their_paths_as_names():
    optax = pytest.importorskip("optax")
    nnx = pytest.importorskip("flax.nnx")
    net = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    state = nnx.state(net, nnx.Param)
    arrays = convoy.jax.arrays(state)
    assert {name.split("/")[0] for name in arrays} == {"kernel", "bias"}
    nnx.update(net, convoy.jax.load(state, {name: array + 1 for name, array in arrays.items()}))
    assert net.bias[...].tolist() == [1, 1, 1]
    adam = optax.adam(0.1)
    first = adam.init({"w": jax.numpy.zeros(2)})
    _, second = adam.update({"w": jax.numpy.ones(2)}, first)
    again = convoy.jax.load(first, Model(convoy.jax.arrays(second)))
    assert jax.tree.all(jax.tree.map(lambda one, other: (one == other).all(), again, second))


def test_a_model_that_does_not_fit_a_tree_is_refused_by_name():
    tree = {"a": {"w": jax.numpy.zeros(2)}}
    for model, words in (
        ({"a/w": np.zeros(2, np.float32), "b": np.zeros(1)}, "unexpected: 'b'"),
        ({}, "missing: 'a/w'"),
        ({"a/w": np.zeros(3, np.float32)}, r"'a/w' of the task's model is float32 \[3\], that of this tree is float32"),
        ({"a/w": np.zeros(2)}, r"is float64 \[2\], that of this tree is float32 \[2\]"),
    ):
        with pytest.raises(BadInput, match=words):
            convoy.jax.load(tree, model)


def test_what_cannot_travel_is_named():
    with pytest.raises(BadInput, match="the leaf 'rngs/key' is a key of random numbers"):
        convoy.jax.arrays({"rngs": {"key": jax.random.key(0)}})
    with pytest.raises(BadInput, match="two leaves of the tree have the path 'a/b'"):
        convoy.jax.arrays({"a": {"b": 1.0}, "a/b": 2.0})


# ---- Keras, whose backend is chosen once in a process ----------------------------------------------------------------
KERAS = """
import keras
import numpy as np
import convoy.keras
from convoy.errors import BadInput


def made():
    layers = [keras.layers.Dense(3, dtype="bfloat16"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)])


one, other = made(), made()
one.compile("sgd", "mse")
one.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
model = convoy.keras.arrays(one)
assert list(model)[:2] == ["0/kernel", "1/bias"] and model["0/kernel"].dtype.name == "bfloat16"
convoy.keras.load(other, model)
again = convoy.keras.arrays(other)
assert list(again) == list(model) and all((again[name] == array).all() for name, array in model.items())
for change, words in (
    ({"x": np.zeros(1)}, "unexpected: 'x'"),
    ({"0/kernel": np.zeros((4, 3))}, "is float64 [4, 3], that of this Keras model is bfloat16 [4, 3]"),
):
    try:
        convoy.keras.load(other, model | change)
    except BadInput as problem:
        assert words in str(problem), problem
    else:
        raise AssertionError(words)
try:
    convoy.keras.arrays(keras.Sequential([keras.layers.Dense(1)]))
except BadInput as problem:
    assert "has not been built" in str(problem)
    print("well", keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_model_of_keras_comes_back_to_the_bit_with_either_backend(backend):
    for package in ("keras", backend):
        if not importlib.util.find_spec(package):
            pytest.skip(f"{package} is not installed")
    env = os.environ | {"KERAS_BACKEND": backend, "PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, "-c", KERAS], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == f"well {backend}\n", done.stderr


WITHOUT = """
import runpy, sys

class Without:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] != sys.argv[1]:
            return next((spec for one in finders if (spec := one.find_spec(name, path, target))), None)

finders = sys.meta_path[:]
sys.meta_path[:] = [Without]
runpy.run_path(sys.argv[2])
"""


@pytest.mark.parametrize(
    ("example", "package", "extra"),
    [
        ("jax_flax", "jax", "jax"),
        ("keras", "keras", "keras"),
        ("lightning", "lightning", "lightning"),
        ("lora", "peft", "peft"),
    ],
)
def test_an_example_without_its_framework_says_what_to_install(example: str, package: str, extra: str) -> None:
    file = Path(__file__).parents[2] / "examples" / example / "train.py"
    done = subprocess.run([sys.executable, "-c", WITHOUT, package, file], capture_output=True, text=True, check=False)
    assert f"{package} is needed here and cannot be imported" in done.stderr
    assert f"run `pip install 'convoy-fl[{extra}]'`" in done.stderr
