"""What tests hand over in a worker's place: always as a file, however small."""

from convoy.store import arrays
from convoy.store.disk import name_of


def hand_over(out, model):
    """Write arrays as a blob into a worker's folder; return its digest."""
    digest, whole = arrays.hand_over(out, model)
    if whole:
        (out / name_of(digest)).write_bytes(whole)
    return digest
