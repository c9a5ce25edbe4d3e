"""What an update must be before its bytes move and once they are here, and which ranges of a blob a site may want."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from convoy.control.records import Answer, Question
from convoy.errors import NotAllowed, Refused
from convoy.model import blob, reply, schema
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb

MAX_RANGES: Final = blob.MAX_TENSORS // 2 + 1  # of one pull: every second tensor, for neighbours are joined


def layout(update: pb.Blob, base: blob.Layout, question: Question, answer: Answer) -> blob.Layout:
    """Return the layout of an offered update. Raises `RemoteFault`, and `Refused` where it is not what is asked for."""
    header = update.whole or update.header
    found = blob.parse(header[: blob.header_length(header[:8])], expect=update.digest)
    if not answer.packed:
        reply.check_layout(found, base, question.reply, question.reply_bytes)
        return found
    if question.reply is not None:
        raise Refused("the answer is packed as an update", why=f"a {question.kind!r} question does not want an update")
    from convoy.privacy import packing  # numpy comes with the first one

    schema.check_layout(found, packing.shapes(schema.shapes(base), answer.packed))
    return found


def check_values(folder: BlobFolder, question: Question, answer: Answer) -> None:
    """Check each value of an update that is here. Raises `Refused`."""
    from convoy.store import arrays  # numpy comes after the start: see `FOR_JOBS` in server/app.py

    update = arrays.load(folder, answer.digest)
    base = arrays.load(folder, question.model) if question.reply is None else None
    if answer.packed and base is not None:
        from convoy.privacy.packing import Unpacked

        update = Unpacked(update, base, answer.packed)
    schema.check_values(update, base, question.max_norm)


def check_ranges(ranges: Collection[pb.Range]) -> None:
    """Refuse ranges that overlap or go back: no site needs a byte twice, and none may make us read for ever."""
    if len(ranges) > MAX_RANGES:
        raise NotAllowed(f"{len(ranges)} byte ranges at once", why=f"{MAX_RANGES} are the limit")
    end = 0
    for part in ranges:
        if part.start < end or part.end < part.start:
            raise NotAllowed("the byte ranges overlap or go back", why=f"{part.start}-{part.end} after {end}")
        end = part.end
