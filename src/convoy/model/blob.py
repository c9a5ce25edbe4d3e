"""The layout of a blob: a safetensors file whose canonical header names every tensor by the digest of its bytes.

The blob's own name is the BLAKE3 digest of that header, so whoever holds the header can check every byte that follows.
Tensors lie in the order of falling item size and then of the model, nothing between them, so that each is at a multiple
of its item size. Where that is not the model's whole order, the header says that too: for each tensor its place there.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from blake3 import blake3

from convoy.errors import BadInput, RemoteFault

SMALL: Final = 64 << 10  # bytes; a blob below this travels inside a message
MAX_HEADER: Final = 16 << 20  # bytes: 65,536 tensors with names of some 40 characters
MAX_TENSORS: Final = 65_536  # a mixture of 128 experts in 94 layers has 36,000
MAX_LISTS: Final = 3 * MAX_TENSORS + 16  # lists and mappings of a header: three for each tensor
MAX_KEYS: Final = 5 * MAX_TENSORS + 64  # keys of a header: dtype, shape, place, name and digest of each tensor
MAX_COMMAS: Final = 12 * MAX_TENSORS  # commas of a header: 7 for a matrix, so there may be 7 dimensions on average
MAX_NAME: Final = 1024  # characters of a tensor's name, which appears in messages
MAX_RANK: Final = 32  # dimensions; older versions of numpy have no more
MAX_BYTES: Final = 1 << 44  # of one tensor: 16 TiB, so that products of dimensions stay bounded
MAX_SPAN: Final = (1 << 63) - 1  # bytes that the dimensions of an array may span, without those of length 0
ALIGN: Final = 8  # bytes; the largest item size
ITEM_SIZE: Final[Mapping[str, int]] = {  # bytes of one item, by safetensors' names
    "F64": 8, "I64": 8, "U64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
DTYPES: Final[Mapping[str, str]] = {  # numpy's names by safetensors' names
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
PACKINGS: Final[Mapping[int, str]] = {8: "I8", 16: "F16"}  # what floats may travel as, by bits (`privacy/packing.py`)
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
    order: tuple[int, ...] = ()  # of the model: places in `tensors`; empty where it is the file's order

    @property
    def ordered(self) -> tuple[Tensor, ...]:
        """The tensors in the order of the model."""
        return _in_order(self.tensors, self.order)


class Recent:
    """The layouts parsed last: the header of a round's model is read a dozen times, and takes 20 µs for each tensor."""

    def __init__(self, most: int) -> None:
        """Keep layouts of at most so many tensors in all."""
        self._most, self._tensors = most, 0
        self._kept: dict[str, Layout] = {}  # the oldest first
        self._lock = threading.Lock()  # a site reads headers in threads, too

    def get(self, digest: str) -> Layout | None:
        """Return the layout of that name, if it is kept."""
        return self._kept.get(digest)

    def keep(self, layout: Layout) -> Layout:
        """Keep a layout in place of the oldest ones; return it."""
        with self._lock:
            if layout.digest not in self._kept:
                self._kept[layout.digest] = layout
                self._tensors += len(layout.tensors)
            while self._tensors > self._most or len(self._kept) > 64:
                self._tensors -= len(self._kept.pop(next(iter(self._kept))).tensors)
        return layout


RECENT: Final = Recent(MAX_TENSORS)  # some 50 MB at most, and next to nothing for models of some hundred tensors


def build(described: Iterable[Described]) -> Layout:
    """Return the layout of a blob with these tensors, which are in the order of the model.

    Raises `BadInput` for a name given twice, an unknown dtype, a size that is not the shape's, or too many tensors.
    """
    items = list(described)
    for item in items:
        if len(item.name) > MAX_NAME:
            raise BadInput(f"tensor {item.name[:80]!r}… has a name of {len(item.name)} characters")
        if item.dtype not in ITEM_SIZE:
            raise BadInput(
                f"tensor {item.name!r} has the dtype {item.dtype}", why=f"a model's are {', '.join(ITEM_SIZE)}"
            )
        if item.nbytes != math.prod(item.shape) * ITEM_SIZE[item.dtype]:
            raise BadInput(
                f"tensor {item.name!r} has {item.nbytes} bytes", why=f"{item.dtype} {list(item.shape)} has not"
            )
    if len({item.name for item in items}) < len(items):
        raise BadInput("two tensors of a model have the same name")
    if len(items) > MAX_TENSORS:
        raise BadInput(
            f"the model has {len(items)} tensors",
            why=f"the limit is {MAX_TENSORS}",
            fix="join small tensors into larger ones, such as the weights of all experts of a layer",
        )
    starts = _starts(items)
    ranked = sorted(range(len(items)), key=lambda at: (starts[at], items[at].nbytes > 0, items[at].name))
    order = _inverse(ranked)
    header = _header(items, starts, order)
    if len(header) > MAX_HEADER:
        raise BadInput(
            f"the names and shapes of a model's {len(items)} tensors take {len(header)} bytes",
            why=f"the limit is {MAX_HEADER} bytes",
            fix="join small tensors into larger ones",
        )
    places = [(items[at], len(header) + starts[at]) for at in ranked]
    tensors = tuple(Tensor(it.name, it.dtype, it.shape, start, start + it.nbytes, it.digest) for it, start in places)
    size = len(header) + sum(item.nbytes for item in items)
    return Layout(tensors, header, size, blake3(header).hexdigest(), order)


def _starts(items: list[Described]) -> list[int]:
    """Return where each tensor begins, counted from the end of the header."""
    starts, place = [0] * len(items), 0
    for at in sorted(range(len(items)), key=lambda at: -ITEM_SIZE[items[at].dtype]):
        starts[at] = place
        place += items[at].nbytes
    return starts


def _inverse(ranked: list[int]) -> tuple[int, ...]:
    """Return for each tensor of the model its place in the file, from the model's tensors in file order."""
    if ranked == sorted(ranked):
        return ()
    order = [0] * len(ranked)
    for place, at in enumerate(ranked):
        order[at] = place
    return tuple(order)


def _in_order(tensors: tuple[Tensor, ...], order: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(tensors[place] for place in order) if order else tensors


def _header(items: list[Described], starts: list[int], order: tuple[int, ...]) -> bytes:
    body: dict[str, Any] = {
        item.name: {"data_offsets": [start, start + item.nbytes], "dtype": item.dtype, "shape": list(item.shape)}
        for item, start in zip(items, starts, strict=True)
    }
    digests = _json({item.name: item.digest for item in items})
    body["__metadata__"] = {"convoy": "1", "digests": digests}
    if order:
        body["__metadata__"] = {"convoy": "2", "digests": digests, "order": json.dumps(order, separators=(",", ":"))}
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
    digest = blake3(header).hexdigest()
    if expect is not None and digest != expect:
        raise RemoteFault(f"a header that is not that of blob {expect[:12]} came", why="its digest differs")
    return RECENT.get(digest) or RECENT.keep(_parsed(header))


def _parsed(header: bytes) -> Layout:
    tensors, metadata = _read(header)
    digests = _object(metadata.get("digests"))
    tensors = _in_order(tensors, _order(metadata, len(tensors)))
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
    """Return the tensors of a safetensors file that anybody wrote, without digests.

    They are in file order; those of a model that Convoy wrote are in the order of that model. Raises `RemoteFault` for
    holes, overlaps, unknown dtypes and sizes that are not the shape's.
    """
    tensors, metadata = _read(header)
    return _in_order(tensors, _order(metadata, len(tensors))) if metadata.get("convoy") == "2" else tensors


def _order(metadata: Mapping[str, Any], count: int) -> tuple[int, ...]:
    """Return the order that a header states: each place of the file once, or nothing for the file's own."""
    text = metadata.get("order")
    if text is None:
        return ()
    try:
        order = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, list) or len(order) != count or any(type(place) is not int for place in order):
        raise RemoteFault("a blob's header states an order that is not one")
    if sorted(order) != list(range(count)):
        raise RemoteFault("a blob's header states an order in which a tensor is missing")
    return tuple(order)


def _digest(name: str, value: object, nbytes: int) -> str:
    if isinstance(value, str) and len(value) == len(EMPTY) and (nbytes or value == EMPTY):
        return value
    raise RemoteFault(f"a blob's header has no digest for tensor {name!r}")


def _object(text: object) -> dict[str, Any]:
    if isinstance(text, str | bytes):
        _demand_few(text if isinstance(text, bytes) else text.encode())
        try:
            value = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as problem:
            raise RemoteFault("a blob's header is not readable", why=str(problem)) from problem
        if isinstance(value, dict):
            return value
    raise RemoteFault("a blob's header is not a JSON object")


def _demand_few(text: bytes) -> None:
    """Refuse text that would grow to more values than a header has: a byte of JSON can take 40 in memory."""
    if text.count(b'"dtype"') > MAX_TENSORS:
        raise RemoteFault(f"a blob has more than {MAX_TENSORS:,} tensors, which is the limit")
    if text.count(b"{") + text.count(b"[") > MAX_LISTS or text.count(b",") > MAX_COMMAS or text.count(b'":') > MAX_KEYS:
        raise RemoteFault(f"a blob's header states more values than {MAX_TENSORS:,} tensors have")


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
    tensors = sorted(found, key=lambda tensor: (tensor.start, tensor.end, tensor.name))
    place = len(header)
    for tensor in tensors:
        if tensor.start != place:
            raise RemoteFault(f"tensor {tensor.name!r} begins at {tensor.start}", why=f"the one before ends at {place}")
        place = tensor.end
    return tuple(tensors), metadata


def _tensor(name: str, entry: object, base: int) -> Tensor:
    if len(name) > MAX_NAME:
        raise RemoteFault(f"a tensor's name has {len(name)} characters", why=f"the limit is {MAX_NAME}")
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
