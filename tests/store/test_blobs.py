"""Blobs as files: written once, received in pieces that may be cut anywhere."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.errors import BadInput, NotFound, RemoteFault, StorageFull
from convoy.model import blob
from convoy.store import arrays, disk
from convoy.store.blobs import BlobFolder

ME = "test"
RNG = np.random.default_rng(7)
MODEL = {
    "head": RNG.standard_normal(40),
    "body": RNG.standard_normal((90, 200)).astype("f4"),
    "frozen": RNG.standard_normal((70, 100)).astype("f4"),
    "none": np.zeros((0, 4), "f4"),
    "questions": np.array(5),
    "mask": RNG.integers(0, 2, 333).astype("?"),
}


@pytest.fixture
def folder(tmp_path) -> BlobFolder:
    return BlobFolder(tmp_path)


def whole(folder: BlobFolder, model=MODEL) -> bytes:
    """Save a model, take the file's bytes and remove it."""
    digest = arrays.save(folder, ME, model)
    data = folder.path(digest).read_bytes()
    folder.release(ME, digest)
    return data


def files(folder: BlobFolder) -> list[str]:
    """Return the names of all files in a folder and below it."""
    return sorted(path.name for path in folder.folder.rglob("*") if path.is_file())


def layout_of(data: bytes) -> blob.Layout:
    return blob.parse(data[: blob.header_length(data)])


def test_arrays_come_back_mapped_and_equal(folder: BlobFolder) -> None:
    digest = arrays.save(folder, ME, MODEL)
    model = arrays.load(folder, digest)
    assert model.digest == digest
    for name, array in MODEL.items():
        np.testing.assert_array_equal(model[name], array)
        assert not model[name].flags.writeable
    assert folder.verify(digest)
    assert folder.digests() == {digest}


def test_saving_what_is_there_writes_nothing(folder: BlobFolder) -> None:
    digest = arrays.save(folder, ME, MODEL)
    before = folder.path(digest).stat()
    assert arrays.save(folder, ME, MODEL) == digest
    assert arrays.save(folder, ME, arrays.load(folder, digest)) == digest
    assert folder.path(digest).stat().st_mtime_ns == before.st_mtime_ns
    assert files(folder) == [f"{digest}.safetensors", f"{ME}~{digest}"]


def test_a_mapped_model_outlives_its_file(folder: BlobFolder) -> None:
    digest = arrays.save(folder, ME, MODEL)
    model = arrays.load(folder, digest)
    folder.release(ME, digest)
    np.testing.assert_array_equal(model["body"], MODEL["body"])
    assert not folder.has(digest)
    folder.release(ME, digest)


@pytest.mark.parametrize("name", ["", "..", "a" * 63, "A" * 64, "../" + "a" * 61, "a" * 64 + "/x"])
def test_what_is_no_digest_names_no_file(folder: BlobFolder, name: str) -> None:
    with pytest.raises(RemoteFault):
        folder.path(name)


def test_a_blob_that_is_not_here_or_damaged_is_not_found(folder: BlobFolder) -> None:
    digest = arrays.save(folder, ME, MODEL)
    path = folder.path(digest)
    data = path.read_bytes()
    for bad in (data[:-1], data[:5], b"", data[:50] + b"x" + data[51:]):
        path.write_bytes(bad)
        with pytest.raises(NotFound, match="damaged"):
            folder.open(digest)
        assert not folder.verify(digest)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert not folder.verify(digest)
    path.unlink()
    with pytest.raises(NotFound, match="not here"):
        folder.read_header(digest)


def test_a_blob_in_one_piece_is_checked_before_it_is_kept(folder: BlobFolder) -> None:
    data = whole(folder)
    layout = layout_of(data)
    for bad in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"x", data[:3], b""):
        with pytest.raises(RemoteFault):
            folder.put(ME, bad, expect=layout.digest)
        assert not files(folder)
    with pytest.raises(RemoteFault):
        folder.put(ME, data, expect="0" * 64)
    assert folder.put(ME, data, expect=layout.digest) == layout
    assert folder.verify(layout.digest)


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 60_000), max_size=5),
    chunk=st.sampled_from([977, 8192, 1 << 20]),
    shared=st.none() | st.sets(st.sampled_from(sorted(MODEL))),
    near=st.booleans(),
)
def test_a_blob_arrives_whole_however_its_stream_is_cut(tmp_path_factory, cuts, chunk, shared, near) -> None:
    folder = BlobFolder(tmp_path_factory.mktemp("blobs"))
    wanted = whole(folder)
    layout = layout_of(wanted)
    other = [] if shared is None else [arrays.save(folder, ME, {name: MODEL[name] for name in shared})]
    held = {tensor.digest for tensor in layout.tensors if tensor.name in (shared or ()) and tensor.end > tensor.start}
    for cut in [*cuts, len(wanted)]:
        with folder.receive(ME, layout, near=other if near else None) as receiver:
            ranges = receiver.ranges
            assert not {t.digest for t in layout.tensors if any(s <= t.start < e for s, e in ranges)} & held
            coming = b"".join(wanted[start:end] for start, end in ranges)
            for start in range(0, min(cut, len(coming)), chunk):
                receiver.feed(coming[start : min(start + chunk, cut)])
            if cut < len(coming):
                with pytest.raises(RemoteFault, match="did not come whole"):
                    receiver.finish()
            else:
                receiver.finish()
                break
    assert folder.path(layout.digest).read_bytes() == wanted
    assert not list(folder.folder.rglob("*.part"))


def test_a_damaged_byte_is_found_at_the_end_of_its_tensor_and_nothing_of_it_stays(folder: BlobFolder) -> None:
    data = whole(folder)
    layout = layout_of(data)
    receiver = folder.receive(ME, layout)
    bad = bytearray(data)
    bad[layout.tensors[-2].end - 1] ^= 1
    with pytest.raises(RemoteFault, match="arrived damaged"):
        receiver.feed(bad[len(layout.header) :])
    receiver.close()
    assert not files(folder)


def test_more_bytes_than_the_blob_has_are_refused(folder: BlobFolder) -> None:
    data = whole(folder)
    with folder.receive(ME, layout_of(data)) as receiver, pytest.raises(RemoteFault, match="more bytes"):
        receiver.feed(data[len(receiver.layout.header) :] + b"x")


def test_a_part_file_that_the_disk_has_damaged_is_used_up_to_the_damage(folder: BlobFolder) -> None:
    data = whole(folder)
    layout = layout_of(data)
    first = layout.tensors[0]
    with folder.receive(ME, layout) as receiver:
        receiver.feed(data[len(layout.header) : -100])
    (part,) = folder.folder.rglob("*.part")
    text = bytearray(part.read_bytes())
    text[layout.tensors[2].start] ^= 1
    part.write_bytes(text)
    with folder.receive(ME, layout) as receiver:
        start = receiver.ranges[0][0]
        assert first.end <= start <= layout.tensors[2].start
        receiver.feed(data[start:])
        receiver.finish()
    assert folder.verify(layout.digest)


def test_a_part_file_of_something_else_is_begun_anew(folder: BlobFolder) -> None:
    data = whole(folder)
    layout = layout_of(data)
    (folder.folder / "holds" / f"{ME}~{layout.digest}.part").write_bytes(b"nonsense" * 9999)
    with folder.receive(ME, layout) as receiver:
        assert receiver.ranges == [(len(layout.header), layout.size)]


def test_two_receivers_of_one_blob_do_not_disturb_each_other(folder: BlobFolder) -> None:
    data = whole(folder)
    layout = layout_of(data)
    body = data[len(layout.header) :]
    with folder.receive(ME, layout) as one, folder.receive(ME, layout) as two:
        one.feed(body[:1000])
        two.feed(body[:5000])
        one.feed(body[1000:])
        one.finish()
        two.feed(body[5000:])
        two.finish()
    assert folder.verify(layout.digest)
    assert len(files(folder)) == 2


def test_held_tensors_that_are_damaged_on_our_disk_are_asked_for(folder: BlobFolder) -> None:
    data = whole(folder)
    layout = layout_of(data)
    other = arrays.save(folder, ME, {"x": MODEL["body"]})
    assert len(folder.receive(ME, layout).ranges) == 2
    path = folder.path(other)
    text = bytearray(path.read_bytes())
    text[-1] ^= 1
    path.write_bytes(text)
    assert len(folder.receive(ME, layout).ranges) == 1


def test_a_full_disk_is_its_own_error_and_leaves_no_draft(folder: BlobFolder) -> None:
    data = whole(folder)
    layout = layout_of(data)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # the kernel's own refusal: a file size limit needs no file system of its own
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(StorageFull):
            arrays.save(folder, ME, MODEL)
        assert not files(folder)
        with pytest.raises(StorageFull):
            folder.receive(ME, layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with folder.receive(ME, layout) as receiver:
        for start, end in receiver.ranges:
            receiver.feed(data[start:end])
        receiver.finish()
    assert folder.verify(layout.digest)


def test_recover_leaves_what_somebody_needs_and_nothing_else(folder: BlobFolder) -> None:
    digest = arrays.save(folder, ME, MODEL)
    lone = arrays.save(folder, "gone", {"w": np.zeros(9)})
    noted = arrays.save(folder, "gone", {"w": np.ones(9)})
    folder.path(digest).unlink()  # killed between the two names of a blob
    a, b = "a" * 64, "b" * 64
    for name in (f"holds/stays~{a}.part", f"holds/gone~{b}.part", "holds/c.draft", "d.draft", "e.part"):
        (folder.folder / name).touch()
    folder.recover([("noted", noted)], lambda holder, _: holder in (ME, "stays"))
    assert folder.holds() == {(ME, digest), ("noted", noted), ("stays", a)}
    assert folder.digests() == {digest, noted}
    assert folder.verify(digest)
    assert lone not in folder.digests()
    assert not list(folder.folder.rglob("*.draft"))
    assert [path.name for path in folder.folder.rglob("*.part")] == [f"stays~{a}.part"]


@pytest.mark.parametrize("cut", [False, True])
def test_what_a_power_cut_has_left_of_a_blob_is_found_by_the_node_that_starts_after_it(cut, folder, monkeypatch):
    whole, half, none = (arrays.save(folder, ME, {"w": np.full(99, float(number))}) for number in range(3))
    folder.recover()
    path = folder.path(half)
    path.write_bytes(path.read_bytes()[:-8] + b"of_other")  # its header and size are right
    folder.path(none).write_bytes(b"")
    if cut:
        folder.recover()  # nothing is read where only the process was killed
        assert folder.digests() == {whole, half, none}
        started = folder.folder.parent / "boot_id"
        started.write_text("another\n")
        monkeypatch.setattr(disk, "STARTED", started)
    else:
        (folder.folder / "boot").unlink()  # as of a folder from before
    folder.recover()
    assert folder.digests() == {whole}
    assert folder.holds() == {(ME, whole)}
    assert not folder.hold(ME, half)


def test_a_safetensors_file_that_is_not_one_is_refused_with_the_reason(tmp_path) -> None:
    path = tmp_path / "initial.safetensors"
    with pytest.raises(BadInput, match="cannot be read"):
        arrays.read_file(path)
    for bad in (b"", b"hello world, this is text", (1 << 50).to_bytes(8, "little")):
        path.write_bytes(bad)
        with pytest.raises(BadInput, match="not a safetensors file"):
            arrays.read_file(path)
