"""A job's log: bounded, its beginning and its end kept, and a line between them that says exactly what is missing."""

import re

from hypothesis import given
from hypothesis import strategies as st

from convoy.node.capped import CappedLog

HEAD, TAIL = 400, 100


def folder_size(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


@given(st.lists(st.integers(1, 60), max_size=80), st.booleans())
def test_what_is_left_is_a_beginning_an_end_and_the_count_of_what_lies_between(tmp_path_factory, sizes, restarted):
    folder = tmp_path_factory.mktemp("log")
    path = folder / "site-1.log"
    log, said = CappedLog(path, HEAD, TAIL), b""
    for number, size in enumerate(sizes):
        if restarted:  # a node that was killed in between goes on where it was
            log = CappedLog(path, HEAD, TAIL)
        line = f"{number}:".encode().ljust(size, b"x") + b"\n"
        log.append(line)
        said += line
        assert folder_size(folder) <= HEAD + 2 * TAIL + 20
    log.close(b"T ")
    kept = path.read_bytes() if path.exists() else b""
    assert len([*folder.iterdir()]) <= 1
    gap = re.search(rb"^T convoy: (\d+) bytes of output are missing here: .*\n", kept, re.MULTILINE)
    if gap is None:
        assert kept == said
        return
    head, tail = kept[: gap.start()], kept[gap.end() :]
    assert said.startswith(head)
    assert said.endswith(tail)
    assert len(head) > HEAD - 62
    assert len(tail) > TAIL - 62
    assert int(gap[1]) == len(said) - len(head) - len(tail)
