"""The blob layout: the safetensors library reads what we write, and nothing but our own form comes in."""

from __future__ import annotations

import json
import struct
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from convoy.errors import BadInput, RemoteFault
from convoy.model import arrays, blob, frameworks
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
def test_the_order_of_a_model_survives_its_blob_and_is_part_of_its_name(model, random) -> None:
    names = list(model)
    random.shuffle(names)
    shuffled = {name: model[name] for name in names}
    layout, data = file_of(shuffled)
    parsed = blob.parse(layout.header, expect=layout.digest)
    assert list(arrays.views(parsed, data)) == names
    assert [tensor.name for tensor in blob.parse_foreign(layout.header)] == names
    assert (layout.digest == file_of(model)[0].digest) == (names == list(model))


def test_a_list_of_arrays_comes_back_in_its_order() -> None:
    layout, data = file_of(frameworks.to_arrays([np.full(2, float(place)) for place in range(12)]))
    model = arrays.views(blob.parse(layout.header), data)
    assert list(model) == [str(place) for place in range(12)]
    assert list(arrays.views(blob.parse_foreign(layout.header), data)) == list(model)


def test_other_tools_see_the_order_of_a_model_of_one_item_size(tmp_path) -> None:
    names = [str(place) for place in range(12)]
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_of({name: np.zeros(2) for name in names})[1])
    assert list(safetensors.numpy.load_file(path)) == names


def test_a_model_in_the_order_of_its_file_has_the_header_that_it_always_had() -> None:
    layout, _ = file_of({"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2, "f4")})
    assert layout.digest == "fc709472ec3887fbdd3642f92943f173d0d4859b102ada080583ee119eb93cb3"


def stating(order: object) -> bytes:
    digests = json.dumps({"a": blob.EMPTY, "b": blob.EMPTY}, separators=(",", ":"))
    entry = {"data_offsets": [0, 0], "dtype": "F32", "shape": [0]}
    body = {"__metadata__": {"convoy": "2", "digests": digests, "order": order}, "a": entry, "b": entry}
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def test_an_order_that_is_none_is_refused() -> None:
    assert [tensor.name for tensor in blob.parse(stating("[1,0]")).ordered] == ["b", "a"]
    for order in (
        "[0,1]",
        "[1, 0]",
        "[1]",
        "[1,1]",
        "[1,2]",
        "[-1,0]",
        "[true,0]",
        "[1.0,0]",
        "x",
        "{}",
        "[" * 9000,
        7,
    ):
        with pytest.raises(RemoteFault):
            blob.parse(stating(order))


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


def test_a_mixture_of_experts_with_65_536_tensors_has_a_header() -> None:
    described = [Described(f"layers.{at}.experts.w", "BF16", (1,), 2, f"{at:064x}") for at in range(blob.MAX_TENSORS)]
    layout = blob.build(described)
    assert [tensor.name for tensor in blob.parse(layout.header).ordered] == [item.name for item in described]


@pytest.mark.parametrize(
    "text",
    [
        b"[" * (16 << 20),
        b'{"a":[' + b"1," * (8 << 20) + b"1]}",
        b"{" + b",".join(b'"%x":1' % at for at in range(400_000)) + b"}",
        b'{"a":["' + b'","'.join(b"%x" % at for at in range(1_000_000)) + b'"]}',
        b"{" + b",".join(b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % at for at in range(65_537)) + b"}",
    ],
    ids=["lists", "numbers", "names", "texts", "tensors"],
)
def test_a_hostile_header_is_refused_before_it_grows(text: bytes) -> None:
    text = text[: blob.MAX_HEADER - 16]
    header = struct.pack("<Q", len(text)) + text
    tracemalloc.start()
    try:
        with pytest.raises(RemoteFault):
            blob.parse(header)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


def test_a_header_that_states_a_length_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteFault, match="limit"):
        blob.header_length(struct.pack("<Q", 1 << 40))


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ([("w", "F32", (2,), 9, blob.EMPTY)], "9 bytes"),
        ([("w", "C64", (2,), 16, blob.EMPTY)], "C64"),
        ([("w" * 1025, "U8", (1,), 1, blob.EMPTY)], "a name of 1025 characters"),
        ([("w", "U8", (1,), 1, blob.EMPTY)] * 2, "same name"),
        ([(f"w{i}", "U8", (1,), 1, blob.EMPTY) for i in range(65_537)], "65537 tensors"),
        ([(f"w{i:01000}", "U8", (1,), 1, blob.EMPTY) for i in range(8_000)], "join small tensors"),
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
