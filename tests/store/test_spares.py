"""Files that held blobs are written over, and nobody who still reads one of them ever sees it change."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convoy.model import blob
from convoy.server.files import Workspace
from convoy.store import arrays, spares
from convoy.store.blobs import BlobFolder
from tests.handing import hand_over

COUNT = 400_000  # float64 values: 3.2 MB
ME = "me"


def model(number: int, count: int = COUNT) -> dict[str, np.ndarray]:
    return {"w": np.full(count, float(number)), "b": np.full(count // 4, -float(number))}


@pytest.fixture
def folder(tmp_path: Path) -> BlobFolder:
    (tmp_path / "blobs").mkdir()
    return BlobFolder(tmp_path / "blobs")


def inode(folder: BlobFolder, digest: str) -> int:
    return folder.path(digest).stat().st_ino


def whole(number: int, folder: Path) -> tuple[blob.Layout, bytes]:
    data = (folder / f"{hand_over(folder, model(number))}.safetensors").read_bytes()
    return blob.parse(data[: blob.header_length(data)]), data


@pytest.mark.parametrize("how", ["write", "take", "receive"])
def test_the_file_of_a_blob_that_went_holds_the_next_one(how: str, folder: BlobFolder, tmp_path: Path) -> None:
    first = arrays.save(folder, ME, model(1))
    old = inode(folder, first)
    folder.release(ME, first)
    assert not folder.digests()
    out = tmp_path / "out"
    out.mkdir()
    layout, data = whole(2, out)
    match how:
        case "write":
            arrays.save(folder, ME, model(2))
        case "take":
            folder.take(ME, out, layout.digest, lambda *_: None)
        case "receive":
            with folder.receive(ME, layout) as receiver:
                for start, end in receiver.ranges:
                    receiver.feed(data[start:end])
                receiver.finish()
    assert inode(folder, layout.digest) == old
    assert folder.path(layout.digest).read_bytes() == data
    assert not list(spares.Spares(folder.folder).folder.iterdir())


def test_a_worker_writes_over_what_its_node_has_taken(folder: BlobFolder, tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []
    for number, count in ((1, COUNT), (2, COUNT), (3, COUNT // 2), (4, COUNT)):
        digest = hand_over(out, model(number, count))
        seen.append((out / f"{digest}.safetensors").stat().st_ino)
        folder.take(ME, out, digest, lambda *_: None)
        assert folder.verify(digest)
    assert len(set(seen)) == 1


def _mapped(path: Path):
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    return lambda: bytes(data[:])


def _opened(path: Path):
    descriptor = os.open(path, os.O_RDONLY)

    def read() -> bytes:
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    return read


def _elsewhere(path: Path):
    code = "import sys, mmap; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); f.close(); "
    code += "print('mapped', flush=True); "
    code += "sys.stdin.read(); sys.stdout.buffer.write(m[:])"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    process.stdout.readline()
    return lambda: process.communicate()[0]


def _linked(path: Path):
    link = path.parent.parent / "result"
    os.link(path, link)
    return link.read_bytes


@pytest.mark.parametrize("reader", [_mapped, _opened, _elsewhere, _linked])
def test_what_somebody_still_reads_is_not_written_over(reader, folder: BlobFolder) -> None:
    first = arrays.save(folder, ME, model(1))
    before = folder.path(first).read_bytes()
    read = reader(folder.path(first))
    folder.release(ME, first)
    for number in (2, 3):
        folder.release(ME, arrays.save(folder, ME, model(number)))
    assert read() == before


def test_a_file_system_that_does_not_know_who_reads_keeps_no_file(folder: BlobFolder, monkeypatch) -> None:
    monkeypatch.setattr(spares, "_is_unused", lambda _: True)
    spares._tells_mapped.cache_clear()
    folder.release(ME, arrays.save(folder, ME, model(1)))
    spares._tells_mapped.cache_clear()
    assert [path.name for path in folder.folder.iterdir()] == ["holds"]


def test_few_files_wait_and_those_of_another_size_go_first(folder: BlobFolder, monkeypatch) -> None:
    monkeypatch.setattr(spares, "MOST", 2)
    place = spares.Spares(folder.folder).folder
    odd = arrays.save(folder, ME, model(1, COUNT // 2))
    same = [arrays.save(folder, ME, model(number)) for number in range(3)]
    size = folder.read_header(same[0]).size
    folder.release(ME, odd)
    folder.release(ME, *same)
    assert [path.name.partition(".")[0] for path in place.iterdir()] == [str(size)] * 2
    assert not folder.digests()


def test_no_file_waits_where_the_disk_has_little_room(folder: BlobFolder, monkeypatch) -> None:
    first, second = (arrays.save(folder, ME, model(number)) for number in (1, 2))
    folder.release(ME, first)
    assert spares.Spares(folder.folder)._names()
    size = folder.read_header(second).size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=spares.MOST * size - 1))
    folder.release(ME, second)
    assert not spares.Spares(folder.folder)._names()


def killed_at(receiver) -> None:
    """What a killed node does not do any more: note how far it came."""
    os.close(receiver._file)
    receiver._file = -1


def test_a_blob_that_comes_over_a_spare_file_goes_on_after_a_kill_where_it_was_noted(folder, tmp_path) -> None:
    folder.release(ME, arrays.save(folder, ME, model(1)))
    layout, data = whole(2, tmp_path / "out")
    receiver = folder.receive(ME, layout)
    (start, _), *_ = receiver.ranges
    cut = start + 5 * (1 << 19)  # 2.5 MB, which is in the first tensor
    for place in range(start, cut, 1 << 19):
        receiver.feed(data[place : place + (1 << 19)])
    killed_at(receiver)
    with folder.receive(ME, layout) as receiver:
        (again, _), *_ = receiver.ranges
        assert start + (1 << 20) < again <= cut
        for begin, end in receiver.ranges:
            receiver.feed(data[begin:end])
        receiver.finish()
    assert folder.path(layout.digest).read_bytes() == data


@pytest.mark.parametrize("lie", [b"\xff" * 8, b"\0" * 8, (3_000_000).to_bytes(8, "big"), (7).to_bytes(8, "big")])
def test_a_note_that_is_wrong_costs_the_tensor_that_it_is_in(lie: bytes, folder: BlobFolder, tmp_path: Path) -> None:
    folder.release(ME, arrays.save(folder, ME, model(1)))
    layout, data = whole(2, tmp_path / "out")
    with folder.receive(ME, layout) as receiver:
        (start, _), *_ = receiver.ranges
        receiver.feed(data[start : start + 2_000_000])
        part = receiver._part
    with part.open("r+b") as file:
        file.seek(layout.size)
        file.write(lie)
    with folder.receive(ME, layout) as receiver:
        assert [begin for begin, _ in receiver.ranges] == [start]
        for begin, end in receiver.ranges:
            receiver.feed(data[begin:end])
        receiver.finish()
    assert folder.path(layout.digest).read_bytes() == data


def test_two_receivers_over_one_spare_file_do_not_disturb_each_other(folder: BlobFolder, tmp_path: Path) -> None:
    folder.release(ME, arrays.save(folder, ME, model(1)))
    layout, data = whole(2, tmp_path / "out")
    with folder.receive(ME, layout) as one, folder.receive(ME, layout) as other:
        for receiver in (one, other):
            for begin, end in receiver.ranges:
                receiver.feed(data[begin:end])
        other.finish()
        one.finish()
    assert folder.path(layout.digest).read_bytes() == data


def test_recover_removes_spare_files(folder: BlobFolder) -> None:
    folder.release(ME, arrays.save(folder, ME, model(1)))
    folder.recover()
    assert not spares.Spares(folder.folder).folder.exists()


def test_a_node_whose_disk_is_full_removes_the_spare_files_of_all_its_jobs(tmp_path: Path) -> None:
    jobs = [BlobFolder(tmp_path / "jobs" / name / "blobs") for name in ("a" * 32, "b" * 32)]
    for job in jobs:
        job.folder.mkdir(parents=True)
        job.release(ME, arrays.save(job, ME, model(1)))
    used = shutil.disk_usage(tmp_path).free
    assert not Workspace(tmp_path).room(0)
    assert all(spares.Spares(job.folder).folder.exists() for job in jobs)
    assert Workspace(tmp_path).room(2 * used)
    assert not any(spares.Spares(job.folder).folder.exists() for job in jobs)


def test_a_file_goes_when_its_job_ends_while_it_becomes_a_spare_one(folder: BlobFolder, monkeypatch) -> None:
    away = folder.let_go([(ME, arrays.save(folder, ME, model(1)))])
    monkeypatch.setattr(spares, "_is_unused", lambda _: shutil.rmtree(folder.folder) is not None)
    spares.Spares(folder.folder).give(away)
    assert not folder.folder.exists()
