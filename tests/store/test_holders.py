"""Who holds a blob has it, whatever the others do, and whenever the node is killed; nobody's blobs are gone."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from convoy.model import blob
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.store.disk import STEP
from convoy.store.spares import SPARE
from tests.handing import hand_over

HOLDERS = ["answer.1.0.site-1", "answer.2.0.site-1", "question.2.0", "model"]
CONTENTS = [{"w": np.full(count, number, np.float64)} for count, number in ((3, 0), (3, 1), (9_000, 0))]
CALLS = ("link", "unlink", "rename", "replace", "open", "pwrite", "copy_file_range")  # a node may be killed at each

holders, contents = st.sampled_from(HOLDERS), st.sampled_from(range(len(CONTENTS)))


class Killed(BaseException):
    """The node is no more."""


class Mortal:
    """Ends the process, as far as its files can tell, at its n-th call that changes any: it does nothing after that."""

    def __init__(self, lives: int) -> None:
        self._lives = lives
        self._patches = [mock.patch.object(os, name, self._mortal(getattr(os, name))) for name in CALLS]

    def _mortal(self, call):
        def mortal(*args, **more):
            if self._lives <= 0:
                raise Killed
            self._lives -= 1
            return call(*args, **more)

        return mortal

    def __enter__(self):
        for patch in self._patches:
            patch.start()

    def __exit__(self, *_):
        for patch in self._patches:
            patch.stop()


def whole(number: int) -> tuple[blob.Layout, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{hand_over(Path(folder), CONTENTS[number])}.safetensors"
        data = path.read_bytes()
    return blob.parse(data[: blob.header_length(data)]), data


LAYOUTS, WHOLE = zip(*map(whole, range(len(CONTENTS))), strict=True)
DIGESTS = [layout.digest for layout in LAYOUTS]


class Holders(RuleBasedStateMachine):
    """Holders of equal and of other blobs in one folder, and a node that is killed between any two questions."""

    def __init__(self) -> None:
        super().__init__()
        self.all_large = mock.patch("convoy.store.spares.STEP", 0)  # every file is written over that may be
        self.all_large.start()
        self.root = Path(tempfile.mkdtemp())
        self.out = self.root / "out"
        for path in (self.root / "blobs", self.out):
            path.mkdir()
        self.folder = BlobFolder(self.root / "blobs")
        self.held: set[tuple[str, str]] = set()
        self.parts: set[tuple[str, str]] = set()
        self.mapped: list[tuple[int, arrays.Model]] = []

    def teardown(self) -> None:
        self.all_large.stop()
        self.mapped.clear()
        shutil.rmtree(self.root)

    def _brings(self, how: str, holder: str, number: int) -> None:
        match how:
            case "write":
                arrays.save(self.folder, holder, CONTENTS[number])
            case "put":
                self.folder.put(holder, WHOLE[number], expect=DIGESTS[number])
            case "receive":
                with self.folder.receive(holder, LAYOUTS[number], near=()) as receiver:
                    for start, end in receiver.ranges:
                        receiver.feed(WHOLE[number][start:end])
                    receiver.finish()
            case "take":
                self.folder.take(holder, self.out, DIGESTS[number], lambda *_: None)

    @rule(how=st.sampled_from(["write", "put", "receive", "take"]), holder=holders, number=contents)
    def bring(self, how: str, holder: str, number: int) -> None:
        if how == "take":
            hand_over(self.out, CONTENTS[number])
        self._brings(how, holder, number)
        self.held.add((holder, DIGESTS[number]))
        assert how != "take" or {path.name for path in self.out.iterdir()} <= {SPARE}
        if how == "receive":
            self.parts.discard((holder, DIGESTS[number]))

    @rule(holder=holders, number=contents)
    def hold(self, holder: str, number: int) -> None:
        there = any(digest == DIGESTS[number] for _, digest in self.held)
        assert self.folder.hold(holder, DIGESTS[number]) == there
        if there:
            self.held.add((holder, DIGESTS[number]))

    @rule(holder=holders, number=contents)
    def release(self, holder: str, number: int) -> None:
        self.folder.release(holder, DIGESTS[number])
        self.held.discard((holder, DIGESTS[number]))
        self.parts.discard((holder, DIGESTS[number]))

    @rule(holder=holders, number=contents, count=st.integers(1, 90_000))
    def break_off(self, holder: str, number: int, count: int) -> None:
        with self.folder.receive(holder, LAYOUTS[number], near=()) as receiver:
            for start, end in receiver.ranges:
                receiver.feed(WHOLE[number][start : min(end, start + count)])
        self.parts.add((holder, DIGESTS[number]))

    @rule(number=contents)
    def read(self, number: int) -> None:
        if any(digest == DIGESTS[number] for _, digest in self.held):
            self.mapped.append((number, arrays.load(self.folder, DIGESTS[number])))

    @rule(how=st.sampled_from(["write", "put", "receive", "take"]), holder=holders, number=contents, then=contents)
    def read_and_replace(self, how: str, holder: str, number: int, then: int) -> None:
        self.bring("write", holder, number)
        self.read(number)
        self.release(holder, number)
        self.bring(how, holder, then)

    @rule(
        how=st.sampled_from(["write", "put", "receive", "take", "release"]),
        holder=holders,
        number=contents,
        lives=st.integers(0, 12),
    )
    def be_killed(self, how: str, holder: str, number: int, lives: int) -> None:
        one = (holder, DIGESTS[number])
        if how == "take":
            hand_over(self.out, CONTENTS[number])
        with suppress(Killed), Mortal(lives):
            if how == "release":
                self.folder.release(*one)
            else:
                self._brings(how, holder, number)
        self.folder = BlobFolder(self.root / "blobs")
        self.folder.recover()
        before, now = self.held | self.parts, self.folder.holds()
        assert before - {one} <= now <= before | {one}  # the others have what they had
        held = {hold for hold in now if os.path.exists(self.folder._holds.mark(*hold))}
        self.held, self.parts = (
            held,
            {hold for hold in now if os.path.exists(f"{self.folder._holds.mark(*hold)}.part")},
        )
        for path in self.out.iterdir():
            path.unlink()

    @invariant()
    def what_is_held_is_here_and_nothing_else(self) -> None:
        assert self.folder.digests() == {digest for _, digest in self.held}
        assert self.folder.holds() == self.held | self.parts
        assert all(self.folder.verify(digest) for _, digest in self.held)
        assert not list(self.root.rglob("*.draft"))

    @invariant()
    def what_was_read_stays_what_it_was(self) -> None:
        for number, model in self.mapped:
            np.testing.assert_array_equal(model["w"], CONTENTS[number]["w"])


TestHolders = Holders.TestCase
TestHolders.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("large", [0, STEP], ids=["files are written over", "files are made anew"])
def test_holders_in_many_threads_have_what_they_hold_until_they_let_go(large, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("convoy.store.spares.STEP", large)
    folder = BlobFolder(tmp_path)
    begin = threading.Barrier(8)

    def hold(number: int) -> None:
        begin.wait()
        for turn in range(150):
            holder, content = f"answer.{turn}.0.site-{number}", turn % 2
            if turn % 3 or not folder.hold(holder, DIGESTS[content]):
                arrays.save(folder, holder, CONTENTS[content])
            assert folder.verify(DIGESTS[content])
            folder.release(holder, DIGESTS[content])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(8)))
    assert not folder.digests()
    assert not folder.holds()
