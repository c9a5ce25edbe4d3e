"""Bundles: what was signed comes out; anything else is refused before it is unpacked."""

import base64
import hashlib
import json
import os
import random
from pathlib import Path

import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import BadInput, ConvoyError, NotAllowed, RemoteFault
from convoy.trust import bundle, folders, keys

FILES = {"train.py": b"print('hello')\n", "job.yaml": b"name: x\n", "data/empty": b""}
PREFIX = b"convoy bundle 1\n"

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def pack(world, now, files=FILES, who="admin", **more) -> bytes:
    key, cert = getattr(world, who)
    claims = {"project": "hospitals", "submitter": "ada@example.org", "now": now} | more
    return bundle.pack(files, key_pem=key, cert_pem=cert, **claims)


def verify(world, now, data, project="hospitals"):
    return bundle.verify(data, root_pem=world.root.pem, project=project, now=now)


def resigned(world, data: bytes, change) -> bytes:
    """Return the bundle with its manifest changed and signed anew by the admin: lies in order."""
    length = int.from_bytes(data[8:12], "little")
    envelope = json.loads(data[12 : 12 + length])
    manifest = json.loads(base64.b64decode(envelope["manifest"]))
    change(manifest)
    raw = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    envelope["manifest"] = base64.b64encode(raw).decode()
    envelope["signature"] = base64.b64encode(keys.sign(keys.from_pem(world.admin[0]), PREFIX + raw)).decode()
    outer = json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()
    return data[:8] + len(outer).to_bytes(4, "little") + outer + data[12 + length :]


@pytest.fixture(scope="module")
def packed(world, now) -> bytes:
    """One bundle for all examples: a signature's length differs from one to the next."""
    return pack(world, now)


def test_what_was_packed_is_verified_with_its_submitter_and_times(world, now):
    data = pack(world, now, sites=["b", "a"])
    checked = verify(world, now, data)
    assert {path: bytes(content) for path, content in checked.files.items()} == FILES
    assert list(checked.files) == sorted(FILES)
    assert (checked.submitter, checked.project, checked.sites) == ("ada@example.org", "hospitals", ("a", "b"))
    assert (checked.created, checked.expires) == (now, now + 30 * 86400)
    assert checked.digest == blake3.blake3(data).hexdigest()


def test_a_resend_is_the_same_job_and_a_second_submit_is_another(world, now):
    data = pack(world, now)
    assert verify(world, now, data).id == verify(world, now, bytes(data)).id
    assert verify(world, now, data).id != verify(world, now, pack(world, now)).id
    assert len(verify(world, now, data).id) == 32


@given(
    files=st.dictionaries(
        st.text("abcdefxyz", min_size=1, max_size=6).map(lambda name: f"{name}.py"), st.binary(max_size=50), max_size=5
    )
)
def test_any_files_come_out_as_they_went_in(world, now, files):
    assert {path: bytes(it) for path, it in verify(world, now, pack(world, now, files)).files.items()} == files


def test_every_single_byte_counts(world, now):
    data = pack(world, now)
    dice = random.Random(7)  # noqa: S311  # any other byte will do
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= dice.randrange(1, 256)
        with pytest.raises((RemoteFault, NotAllowed)):
            verify(world, now, changed)


@given(data=st.data())
def test_any_change_of_any_byte_is_refused(world, now, packed, data):
    whole = bytearray(packed)
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((RemoteFault, NotAllowed)):
        verify(world, now, whole)


@given(data=st.data())
def test_bytes_cut_off_added_or_swapped_are_refused(world, now, packed, data):
    cut = data.draw(st.integers(0, len(packed) - 1))
    extra = data.draw(st.binary(min_size=1, max_size=20))
    for other in (packed[:cut], packed + extra, packed[:cut] + extra + packed[cut:]):
        with pytest.raises((RemoteFault, NotAllowed)):
            verify(world, now, other)


@given(st.binary(max_size=300))
def test_any_bytes_at_all_end_in_a_named_refusal(world, now, data):
    for attempt in (data, b"CONVOYB1" + data, b"CONVOYB1" + len(data).to_bytes(4, "little") + data):
        with pytest.raises(ConvoyError):
            verify(world, now, attempt)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda it: it.update(project="banks"), "is for banks"),
        (lambda it: it.update(submitter="eve@example.org"), "signed by ada@example.org"),
        (lambda it: it.update(created=it["created"] + 301), "in the future"),
        (lambda it: it.update(expires=it["created"] - 1), "expired"),
        (lambda it: it.update(expires=it["created"] + 91 * 86400), "expired"),
        (lambda it: it.update(expires=float("nan")), "cannot be read"),
        (lambda it: it.update(created=float("nan")), "cannot be read"),
        (lambda it: it.update(format=2), "not in the format of this version"),
        (lambda it: it.update(sites="all"), "not in the format of this version"),
        (lambda it: it.update(files=None), "cannot be read"),
        (lambda it: it.pop("nonce"), "cannot be read"),
        (lambda it: it["files"][0].__setitem__(1, -1), "not in the format of this version"),
        (lambda it: it["files"][0].__setitem__(1, True), "not in the format of this version"),
        (lambda it: it["files"][0].__setitem__(1, 1 << 60), "should have"),
        (lambda it: it["files"][0].__setitem__(0, "../../etc/passwd"), "a bundle must not contain"),
        (lambda it: it["files"][0].__setitem__(0, "/etc/passwd"), "a bundle must not contain"),
        (lambda it: it["files"].reverse(), "a bundle must not contain"),
        (lambda it: it.update(files=[[]] * 40_001), "cannot be read"),
        (lambda it: it["files"].append(it["files"][-1]), "a bundle must not contain"),
        (lambda it: it["files"][0].__setitem__(2, "0" * 64), "differs from the file that was signed"),
        (lambda it: it.update(files=[[f"{n:06}", 0, "0"] for n in range(10_001)]), "a bundle must not contain"),
    ],
)
def test_a_lie_that_is_signed_is_refused_too(world, now, change, word):
    with pytest.raises((RemoteFault, NotAllowed)) as caught:
        verify(world, now, resigned(world, pack(world, now), change))
    assert word in str(caught.value)


def test_a_signed_truth_in_new_words_is_taken(world, now):
    assert verify(world, now, resigned(world, pack(world, now), dict.copy)).files.keys() == FILES.keys()


def test_contents_of_the_same_size_are_told_apart(world, now):
    data = pack(world, now)
    with pytest.raises(RemoteFault, match="damaged") as caught:
        verify(world, now, data.replace(b"hello", b"HELLO"))
    assert "train.py differs from the file that was signed" in caught.value.why


@pytest.mark.parametrize("who", ["site", "server"])
def test_only_an_admin_may_sign(world, now, who):
    with pytest.raises(NotAllowed, match=f"belongs to a {who}"):
        verify(world, now, pack(world, now, who=who))


def test_an_admin_of_another_root_may_not_submit(world, stranger, now):
    with pytest.raises(NotAllowed, match="not from the root"):
        verify(world, now, pack(stranger, now))


def test_an_old_bundle_is_refused(world, now):
    with pytest.raises(NotAllowed, match="expired"):
        verify(world, now + 31 * 86400, pack(world, now))


def test_sizes_are_refused_before_anything_is_decoded(world, now):
    with pytest.raises(RemoteFault, match="bytes"):
        verify(world, now, bytes(bundle.MAX_BYTES + 1))
    with pytest.raises(RemoteFault) as caught:
        verify(world, now, b"CONVOYB1" + (0xFFFFFFFF).to_bytes(4, "little") + b"x")
    assert "4,294,967,295" in caught.value.why


def test_what_no_bundle_may_hold_is_not_packed(world, now):
    for files in ({"../x": b""}, {"a": b"", "A": b""}, {f"{n}": b"" for n in range(10_001)}, {"x": bytes(64 << 20)}):
        with pytest.raises(BadInput):
            pack(world, now, files)


def test_a_whole_bundle_is_unpacked_and_replaces_what_was_there(world, now, tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "stale.py").touch()
    bundle.unpack(verify(world, now, pack(world, now)), folder)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["code"]


def test_a_job_folder_is_gathered_without_what_python_leaves_behind(tmp_path):
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "train.cpython-311.pyc").touch()
    assert folders.gather(tmp_path) == FILES


def test_a_virtual_environment_stays_out_whatever_its_name_is(tmp_path):
    for path in ("train.py", "env/pyvenv.cfg", "env/lib/large.py", "net/env/pyvenv.cfg", "net/env.py", "envs/a.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert folders.gather(tmp_path).keys() == folders.of_job(names) == {"train.py", "net/env.py", "envs/a.py"}


def test_links_pipes_files_and_missing_folders_are_not_gathered(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="is a link"):
        folders.gather(tmp_path)
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="is not a plain file"):
        folders.gather(tmp_path)
    with pytest.raises(BadInput, match="there is no folder"):
        folders.gather(tmp_path / "gone")
    (tmp_path / "job.yaml").touch()
    with pytest.raises(BadInput, match=r"job\.yaml is a file") as caught:
        folders.gather(tmp_path / "job.yaml")
    assert caught.value.fix == f"give the folder: {tmp_path}"


@pytest.mark.parametrize("name", [".env", ".train.py.swp", "-x.py", "con.txt"])
def test_a_name_that_no_bundle_holds_is_refused_where_the_folder_is_read(tmp_path, name):
    """So that `convoy job check` and `convoy simulate` say what `convoy job submit` would."""
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match="a job cannot carry this file") as caught:
        folders.gather(tmp_path)
    assert repr(name) in caught.value.what


def test_a_folder_of_data_is_refused_before_it_is_read(tmp_path):
    with Path(tmp_path / "large.bin").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadInput, match="too large for a job") as caught:
        folders.gather(tmp_path)
    assert caught.value.why.startswith("it has 1,099,511,627,776 bytes, 1,099,511,627,776 of them in large.bin; a job")


def test_two_names_that_are_one_in_a_bundle_are_refused_and_neither_file_is_lost(tmp_path):
    (tmp_path / "caf\u00e9.py").write_text("1")
    (tmp_path / "cafe\u0301.py").write_text("2")
    with pytest.raises(BadInput, match="twice"):
        folders.gather(tmp_path)


def test_too_many_files_are_refused_with_where_most_of_them_are(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MAX_FILES", 4)
    for path in ("a", "b", "c/1", "d/1", "d/2"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    with pytest.raises(BadInput, match="too large for a job") as caught:
        folders.gather(tmp_path)
    assert caught.value.why.startswith("it has 5 files, 2 of them in ")


def test_the_list_holds_the_sha256_of_each_file(world, now):
    seen = {}
    resigned(world, pack(world, now), lambda it: seen.update({path: digest for path, _, digest in it["files"]}))
    assert seen == {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}


def test_a_signers_short_lived_certificate_may_end_before_the_bundle_that_it_signed_in_time(world, now):
    key, cert = world.root.issue("admin", "ada@example.org", now=now, days=1)
    data = bundle.pack(
        FILES, project="hospitals", submitter="ada@example.org", key_pem=key, cert_pem=cert, now=now + 100
    )
    assert verify(world, now + 5 * 86400, data).submitter == "ada@example.org"
    late = bundle.pack(
        FILES, project="hospitals", submitter="ada@example.org", key_pem=key, cert_pem=cert, now=now + 2 * 86400
    )
    for days in (2, 5):
        with pytest.raises(NotAllowed, match="certificate expired"):
            verify(world, now + days * 86400, late)


def test_numbers_that_are_no_times_are_refused_before_they_are_reckoned_with(world, now):
    for number in (10**400, -(10**400), float("inf"), float("-inf")):
        with pytest.raises((RemoteFault, NotAllowed)):
            verify(world, now, resigned(world, pack(world, now), lambda it, number=number: it.update(created=number)))


def test_nothing_that_is_unpacked_can_be_executed_whatever_the_umask(tmp_path, world, now):
    data = pack(world, now, files={"job.yaml": b"name: tumours\n", "deep/er/run.sh": b"#!/bin/sh\n"})
    checked = verify(world, now, data)
    before = os.umask(0)
    try:
        bundle.unpack(checked, tmp_path / "code")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "code").rglob("*")}
    assert modes == {"job.yaml": 0o644, "run.sh": 0o644, "deep": 0o755, "er": 0o755}


def test_a_strange_name_is_blamed_and_not_the_number_of_files(world, now):
    with pytest.raises(BadInput, match=r"a job cannot carry this file: 'what\?\.py'") as refused:
        pack(world, now, files={"job.yaml": b"name: tumours\n", "what?.py": b""})
    assert "10,000" not in str(refused.value)
