"""The blob layout: the safetensors library reads what we write, and nothing but our own form comes in."""

from __future__ import annotations

import json
import struct
from itertools import pairwise

import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from convoy.errors import BadInput, RemoteFault
from convoy.model import arrays, blob
from convoy.model.blob import Described

DTYPES = [name for name in arrays.NAMES if not name.startswith(("bfloat", "float8"))]
tensors = st.sampled_from(DTYPES).flatmap(
    lambda name: npst.arrays(np.dtype(name), npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
)
models = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "__metadata__"), tensors, max_size=6)


def file_of(model: dict[str, np.ndarray]) -> tuple[blob.Layout, bytes]:
    layout = blob.build(arrays.describe(model))
    return layout, layout.header + b"".join(arrays.raw(model[tensor.name]) for tensor in layout.tensors)


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a
    )


@given(models)
def test_the_safetensors_library_reads_what_we_write(model) -> None:
    layout, data = file_of(model)
    assert len(data) == layout.size
    assert same(safetensors.numpy.load(data), model)


@given(models)
def test_we_read_what_the_safetensors_library_writes(model) -> None:
    data = safetensors.numpy.save(model)
    header = data[: blob.header_length(data)]
    assert same(arrays.views(blob.parse_foreign(header), data), model)


@given(models)
def test_a_header_parses_to_the_layout_that_it_was_built_from(model) -> None:
    layout, data = file_of(model)
    assert blob.header_length(data) == len(layout.header)
    assert blob.parse(layout.header, expect=layout.digest) == layout
    assert same(arrays.views(layout, data), model)


@given(models, st.randoms())
def test_a_blob_s_name_does_not_depend_on_the_order_of_its_tensors(model, random) -> None:
    names = list(model)
    random.shuffle(names)
    assert file_of({name: model[name] for name in names}) == file_of(model)


@given(models)
def test_every_tensor_lies_at_a_multiple_of_its_item_size_with_no_holes(model) -> None:
    layout, _ = file_of(model)
    place = len(layout.header)
    assert place % 8 == 0
    for tensor in layout.tensors:
        assert tensor.start == place
        assert tensor.start % blob.ITEM_SIZE[tensor.dtype] == 0
        place = tensor.end
    assert place == layout.size


@given(models, st.data())
def test_one_changed_byte_of_a_header_is_refused(model, data) -> None:
    layout, _ = file_of(model)
    place = data.draw(st.integers(0, len(layout.header) - 1))
    bad = bytearray(layout.header)
    bad[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteFault):
        blob.parse(bytes(bad), expect=layout.digest)


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, struct.pack("<Q", len(noise)) + noise):
        with pytest.raises(RemoteFault):
            blob.parse(data)


def forged(**changes) -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    digests = json.dumps({"w": blake3(b"x").hexdigest()}, separators=(",", ":"))
    body = {"__metadata__": {"convoy": "1", "digests": digests}, "w": entry}
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def test_the_forger_of_these_tests_can_make_a_good_header() -> None:
    assert blob.parse(forged()).tensors[0].name == "w"


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "F33"},
        {"dtype": 7},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [2.0]},
        {"shape": [True, 2]},
        {"shape": [2] + [1] * 40},
        {"shape": [1 << 40, 1 << 40]},
        {"shape": "2"},
        {"data_offsets": [4, 12]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [0]},
        {"more": 1},
    ],
)
def test_a_header_that_states_nonsense_is_refused(changes) -> None:
    with pytest.raises(RemoteFault):
        blob.parse(forged(**changes))


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"a":1,"a":2}', b"[]", b"null", b"{}", b'{"__metadata__":3}', b'{"a":' + b"9" * 5000 + b"}"],
)
def test_json_that_is_no_header_is_refused(text: bytes) -> None:
    with pytest.raises(RemoteFault):
        blob.parse(struct.pack("<Q", len(text)) + text)


def test_a_header_that_states_a_length_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteFault, match="limit"):
        blob.header_length(struct.pack("<Q", 1 << 40))


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ([("w", "F32", (2,), 9, blob.EMPTY)], "9 bytes"),
        ([("w", "C64", (2,), 16, blob.EMPTY)], "C64"),
        ([("w", "U8", (1,), 1, blob.EMPTY)] * 2, "same name"),
        ([(f"w{i}", "U8", (1,), 1, blob.EMPTY) for i in range(10_001)], "10001 tensors"),
        ([(f"w{i:0100}", "U8", (1,), 1, blob.EMPTY) for i in range(8_000)], "join small tensors"),
    ],
)
def test_a_model_that_no_blob_can_hold_is_refused(described, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        blob.build([Described(*item) for item in described])


@given(models, st.data())
def test_missing_ranges_are_exactly_the_bytes_after_a_place_that_nobody_holds(model, data) -> None:
    layout, _ = file_of(model)
    held = {t.digest for t in layout.tensors if data.draw(st.booleans())}
    start = data.draw(st.integers(0, layout.size))
    wanted = {i for t in layout.tensors if t.digest not in held for i in range(t.start, t.end) if i >= start}
    ranges = blob.missing(layout, held, start)
    assert [i for begin, end in ranges for i in range(begin, end)] == sorted(wanted)
    assert all(one[1] < two[0] for one, two in pairwise(ranges))
