"""Arrays in a message without digests: the same bits come out, and nothing but the bytes of some arrays comes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from convoy.errors import BadInput, RemoteFault
from convoy.model import bare, blob
from tests.model.test_blob import models, same

WHOLE = bare.pack({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([7])})


@given(models)
def test_arrays_come_out_of_a_message_as_they_went_in_and_in_their_order(model) -> None:
    found = bare.unpack(bare.pack(model))
    assert list(found) == list(model)
    assert same(found, model)
    assert not any(array.flags.writeable for array in found.values())


def test_arrays_that_have_the_shapes_of_others_keep_their_own_values() -> None:
    first, second = ({"w": np.full(3, value)} for value in (1.0, 2.0))
    assert same(bare.unpack(bare.pack(first)), first)
    assert same(bare.unpack(bare.pack(second)), second)


def test_what_is_too_large_for_a_message_is_not_packed_and_not_taken() -> None:
    room = blob.SMALL - blob.header_length(bare.pack({"w": np.zeros(60_000, np.uint8)})) - 1
    assert len(bare.pack({"w": np.zeros(room, np.uint8)})) < blob.SMALL
    assert bare.pack({"w": np.zeros(room + blob.ALIGN, np.uint8)}) == b""
    assert bare.pack({"w": np.zeros(1 << 20)}) == b""
    layout = blob.build([blob.Described("w", "U8", (blob.SMALL,), blob.SMALL, "")])
    with pytest.raises(RemoteFault, match="in a message"):
        bare.unpack(layout.header + bytes(blob.SMALL))


@pytest.mark.parametrize("whole", [b"\1", WHOLE[:-1], WHOLE + b"\0", WHOLE[8:], bytes(8) + WHOLE[8:], WHOLE[:40]])
def test_bytes_that_are_not_exactly_those_of_some_arrays_are_refused(whole) -> None:
    with pytest.raises(RemoteFault):
        bare.unpack(whole)


def test_arrays_that_cannot_be_in_a_blob_cannot_be_in_a_message() -> None:
    with pytest.raises(BadInput, match="complex"):
        bare.pack({"w": np.zeros(2, np.complex64)})
