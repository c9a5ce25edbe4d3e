"""The layout of a blob: a safetensors file whose canonical header names every tensor by the digest of its bytes.

The blob's own name is the BLAKE3 digest of that header, so whoever holds the header can check every byte that follows.
Tensors lie in the order of falling item size, then name: nothing between them, each at a multiple of its item size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from blake3 import blake3

from convoy.errors import BadInput, RemoteFault

SMALL: Final = 64 << 10  # bytes; a blob below this travels inside a message
MAX_HEADER: Final = 1 << 20  # bytes: 10,000 tensors with names of some 20 characters
MAX_TENSORS: Final = 10_000  # the largest language models have some 2,000
MAX_RANK: Final = 32  # dimensions; numpy itself long had no more
MAX_BYTES: Final = 1 << 44  # of one tensor: 16 TiB, so that no product of dimensions grows without end
REMEMBERED: Final = 8 << 10  # bytes of a header whose layout is remembered for the next reader
MAX_SPAN: Final = (1 << 63) - 1  # bytes that the dimensions of an array may span, those of no size left out
ALIGN: Final = 8  # bytes; the largest item size
ITEM_SIZE: Final[Mapping[str, int]] = {  # bytes of one item, by safetensors' names
    "F64": 8, "I64": 8, "U64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
EMPTY: Final = blake3(b"").hexdigest()


class Described(NamedTuple):
    """A tensor before it has a place; `digest` is the BLAKE3 of its bytes, in hex."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in a file: its bytes are [start, end) counted from the file's begin."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    digest: str = ""  # empty only in files that others wrote


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole blob without its values; `size` is the file's, `digest` the blob's name."""

    tensors: tuple[Tensor, ...]  # in file order
    header: bytes  # the file's first bytes, its length included
    size: int
    digest: str


def build(described: Iterable[Described]) -> Layout:
    """Return the layout of a blob with these tensors.

    Raises `BadInput` for a name given twice, an unknown dtype, a size that is not the shape's, or too many tensors.
    """
    items = sorted(described, key=lambda item: (-_item_size(item.name, item.dtype), item.name))
    for item in items:
        if item.nbytes != math.prod(item.shape) * ITEM_SIZE[item.dtype]:
            raise BadInput(
                f"tensor {item.name!r} has {item.nbytes} bytes", why=f"{item.dtype} {list(item.shape)} has not"
            )
    if len({item.name for item in items}) < len(items):
        raise BadInput("two tensors of a model have the same name")
    if len(items) > MAX_TENSORS:
        raise BadInput(f"a model of {len(items)} tensors", why=f"the limit is {MAX_TENSORS}")
    header = _header(items)
    if len(header) > MAX_HEADER:
        raise BadInput(
            f"the names and shapes of a model's {len(items)} tensors take {len(header)} bytes",
            why=f"the limit is {MAX_HEADER} bytes",
            fix="join small tensors into larger ones",
        )
    tensors, place = [], len(header)
    for item in items:
        tensors.append(Tensor(item.name, item.dtype, item.shape, place, place + item.nbytes, item.digest))
        place += item.nbytes
    return Layout(tuple(tensors), header, place, blake3(header).hexdigest())


def _item_size(name: str, dtype: str) -> int:
    size = ITEM_SIZE.get(dtype)
    if size is None:
        raise BadInput(f"tensor {name!r} has the dtype {dtype}", why=f"a model's are {', '.join(ITEM_SIZE)}")
    return size


def _header(items: list[Described]) -> bytes:
    body: dict[str, Any] = {}
    place = 0
    for item in items:
        body[item.name] = {
            "data_offsets": [place, place + item.nbytes],
            "dtype": item.dtype,
            "shape": list(item.shape),
        }
        place += item.nbytes
    digests = _json({item.name: item.digest for item in items})
    body["__metadata__"] = {"convoy": "1", "digests": digests}
    text = _json(body).encode()
    text += b" " * (-len(text) % ALIGN)
    return len(text).to_bytes(8, "little") + text


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def header_length(first: bytes) -> int:
    """Return how many bytes the header has, its 8 bytes of length included. Raises `RemoteFault` over the limit."""
    length = int.from_bytes(first[:8], "little") + 8
    if len(first) < 8 or length > MAX_HEADER:
        raise RemoteFault("this is no blob", why=f"its header would have {length} bytes, the limit is {MAX_HEADER}")
    return length


def parse(header: bytes, *, expect: str | None = None) -> Layout:
    """Return the layout that a header states, after checking that it is exactly the header which we would write.

    Raises `RemoteFault` for anything else, and where `expect` is given for a header that is not this blob's.
    """
    header = bytes(header)
    if expect is not None and blake3(header).hexdigest() != expect:
        raise RemoteFault(f"a header that is not that of blob {expect[:12]} came", why="its digest differs")
    return _remembered(header) if len(header) <= REMEMBERED else _parsed(header)


@lru_cache(maxsize=32)
def _remembered(header: bytes) -> Layout:
    """Return the layout of a short header; a small round reads each of its few headers many times."""
    return _parsed(header)


def _parsed(header: bytes) -> Layout:
    tensors, metadata = _read(header)
    digests = _object(metadata.get("digests"))
    described = [
        Described(t.name, t.dtype, t.shape, t.end - t.start, _digest(t.name, digests.get(t.name), t.end - t.start))
        for t in tensors
    ]
    try:
        layout = build(described)
    except BadInput as problem:
        raise RemoteFault("a blob's header is wrong", why=str(problem)) from problem
    if layout.header != header:
        raise RemoteFault("a blob's header is not in its one canonical form")
    return layout


def parse_foreign(header: bytes) -> tuple[Tensor, ...]:
    """Return the tensors of a safetensors file that anybody wrote, in file order and without digests.

    Raises `RemoteFault` for holes, overlaps, unknown dtypes and sizes that are not the shape's.
    """
    return _read(header)[0]


def _digest(name: str, value: object, nbytes: int) -> str:
    if isinstance(value, str) and len(value) == len(EMPTY) and (nbytes or value == EMPTY):
        return value
    raise RemoteFault(f"a blob's header has no digest for tensor {name!r}")


def _object(text: object) -> dict[str, Any]:
    if isinstance(text, str | bytes):
        try:
            value = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as problem:
            raise RemoteFault("a blob's header is not readable", why=str(problem)) from problem
        if isinstance(value, dict):
            return value
    raise RemoteFault("a blob's header is not a JSON object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice")
    return made


def _read(header: bytes) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    if header_length(header[:8]) != len(header):
        raise RemoteFault("a blob's header has not the length that it states")
    body = _object(header[8:])
    metadata = body.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise RemoteFault("a blob's metadata is not a JSON object")
    if len(body) > MAX_TENSORS:
        raise RemoteFault(f"a blob of {len(body)} tensors", why=f"the limit is {MAX_TENSORS}")
    found = [_tensor(name, entry, len(header)) for name, entry in body.items()]
    tensors = sorted(found, key=lambda tensor: (tensor.start, tensor.end))
    place = len(header)
    for tensor in tensors:
        if tensor.start != place:
            raise RemoteFault(f"tensor {tensor.name!r} begins at {tensor.start}", why=f"the one before ends at {place}")
        place = tensor.end
    return tuple(tensors), metadata


def _tensor(name: str, entry: object, base: int) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, end]}:
            pass
        case _:
            raise RemoteFault(f"a blob's header says nothing useful about tensor {name!r}")
    numbers = [*shape, start, end]
    if len(shape) > MAX_RANK or any(type(n) is not int or not 0 <= n <= MAX_BYTES for n in numbers):
        raise RemoteFault(f"tensor {name!r} has an impossible shape or place", why=f"{shape} at [{start}, {end})")
    if dtype not in ITEM_SIZE:
        raise RemoteFault(f"tensor {name!r} has the dtype {dtype!r}", why=f"a model's are {', '.join(ITEM_SIZE)}")
    if math.prod(size for size in shape if size) * ITEM_SIZE[dtype] > MAX_SPAN:  # one without items has strides, too
        raise RemoteFault(f"tensor {name!r} has an impossible shape", why=f"{shape}: no array can have it")
    if math.prod(shape) * ITEM_SIZE[dtype] != end - start:
        raise RemoteFault(f"tensor {name!r} has {end - start} bytes", why=f"{dtype} {shape} has not")
    return Tensor(name, dtype, tuple(shape), base + start, base + end)


def missing(layout: Layout, held: Container[str], start: int = 0) -> list[tuple[int, int]]:
    """Return the byte ranges of the file, from `start` on, of tensors whose digest is not held; neighbours joined."""
    ranges: list[tuple[int, int]] = []
    for tensor in layout.tensors:
        begin = max(tensor.start, start)
        if begin >= tensor.end or tensor.digest in held:
            continue
        if ranges and ranges[-1][1] == begin:
            begin = ranges.pop()[0]
        ranges.append((begin, tensor.end))
    return ranges
