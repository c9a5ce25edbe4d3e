"""What W&B's own files say of how far a run is that was written without a network.

Such a file is a log of records in blocks of 32 KiB, as LevelDB has them. One that a kill has ended is read up to its
last whole record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

OWN: Final = "_convoy/"  # what keys begin with that say how far a run is; no site's name does
MAGIC: Final = b":W&B"
HEAD: Final = struct.Struct("<4sHB")  # what the file begins with, version included
BLOCK: Final = 32 << 10  # bytes
PIECE: Final = struct.Struct("<IHB")  # checksum, bytes, and which piece of a record it is
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAX_RECORD: Final = 16 << 20  # bytes; ours have some hundred
MAX_DIGITS: Final = 18  # of a number in a row


def rows(folder: Path, run: str) -> dict[str, int]:
    """Return the largest value of each number that begins with `_convoy/`, and of `_step`, in all files of a run."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2 as pb

    found: dict[str, int] = {}
    for path in sorted(folder.glob(f"offline-run-*-{run}*/run-{run}.wandb")):
        with path.open("rb") as file:
            for data in records(file):
                try:
                    record = pb.Record.FromString(data)
                except DecodeError:
                    break
                for item in record.history.item:
                    key = item.key or "/".join(item.nested_key)
                    if (key.startswith(OWN) or key == "_step") and item.value_json[:MAX_DIGITS].isdecimal():
                        found[key] = max(int(item.value_json[:MAX_DIGITS]), found.get(key, 0))
    return found


def records(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the whole records of a file, up to the first that is torn or damaged."""
    if not file.read(HEAD.size).startswith(MAGIC):
        return
    at, record = HEAD.size, b""
    while True:
        left = BLOCK - at % BLOCK
        if left < PIECE.size:
            file.read(left)
            at += left
            continue
        head = file.read(PIECE.size)
        if len(head) < PIECE.size:
            return
        checksum, size, kind = PIECE.unpack(head)
        data = file.read(size)
        at += PIECE.size + size
        if len(data) < size or kind not in (FULL, FIRST, MIDDLE, LAST) or zlib.crc32(bytes([kind]) + data) != checksum:
            return
        record = data if kind in (FULL, FIRST) else record + data
        if len(record) > MAX_RECORD:
            return
        if kind in (FULL, LAST):
            yield record
