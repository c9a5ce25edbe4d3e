"""Submitting over a real REST API: exactly the files that were checked and confirmed are signed."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.admin.client import Sent
from convoy.dashboard import drafts
from convoy.dashboard.drafts import Drafts, unframed
from convoy.errors import BadInput, NotFound, Unreachable
from convoy.trust import bundle, paths
from tests.dashboard.conftest import logged_in
from tests.dashboard.test_pages import EVIL

JOB = b"name: tumours\nworkflow: fedavg\nwith: {rounds: 1}\ntrainer: train.py\n"
TRAIN = b"import convoy\n\n\n@convoy.train\ndef train(task):\n    return convoy.Reply(task.model, weight=1)\n"
FILES = {"job.yaml": JOB, "train.py": TRAIN}


def framed(files):
    listed = json.dumps([[path, len(data)] for path, data in files.items()]).encode()
    return len(listed).to_bytes(4, "little") + listed + b"".join(files.values())


async def uploaded(shown, files, **headers):
    given = {"origin": shown.origin, "x-convoy-csrf": shown.session.csrf} | headers
    return await shown.http.post("/submit/upload", content=framed(files), headers=given)


def digest_in(page):
    return re.search(r'name="digest" value="([0-9a-f]{64})"', page)[1]


async def test_a_folder_is_uploaded_checked_confirmed_and_submitted(rest, shown):
    left = {"__pycache__/train.cpython-311.pyc": b"x", ".git/config": b"x", "old.pyc": b"x"}
    answer = await uploaded(shown, FILES | left)
    assert answer.status_code == 200, answer.text
    page = (await shown.get(answer.text)).text
    assert "checked" in page
    assert "3 files that editors" in page
    for path, _, digest in drafts.Draft("", "", FILES).listed():
        assert path in page
        assert digest in page
    assert rest.fake.kept == {}, "nothing is sent before it is confirmed"
    sent = await shown.post(answer.text, {"digest": digest_in(page)})
    assert sent.status_code == 303
    job = sent.headers["location"].removeprefix("/jobs/")
    async with rest.client() as client:
        assert {path: bytes(data) for path, data in (await client.bundle(job)).files.items()} == FILES
    assert (await shown.post(answer.text, {"digest": digest_in(page)})).status_code == 404, "it is submitted once"


async def test_what_was_not_confirmed_is_not_signed(rest, shown):
    first = (await uploaded(shown, FILES)).text
    other = (await uploaded(shown, FILES | {"train.py": TRAIN + b"# changed\n"})).text
    confirmed = digest_in((await shown.get(first)).text)
    for digest in (confirmed, "", "0" * 64):
        answer = await shown.post(other, {"digest": digest})
        assert answer.status_code == 400
        assert "not the files that were confirmed" in answer.text
    assert rest.fake.kept == {}


async def test_findings_stand_at_their_lines(shown):
    wrong = JOB.replace(b"rounds: 1", b"round: 1") + b"sites: [site-1, site-7]\n"
    path = (await uploaded(shown, FILES | {"job.yaml": wrong})).text
    page = (await shown.get(path)).text
    assert "problems found" in page
    assert 'class="here"><b>3</b>with: {round: 1}' in page
    assert "line 5" in page
    assert "site-7" in page
    assert 'name="digest"' not in page
    answer = await shown.post(path, {"digest": drafts.Draft("", "", FILES | {"job.yaml": wrong}).digest()})
    assert answer.status_code == 400
    assert "the checks have found problems" in answer.text
    several = b"nam: x\nworkflow: 3\nfoo: 1\n"
    page = (await shown.get((await uploaded(shown, FILES | {"job.yaml": several})).text)).text
    assert [int(it) for it in re.findall(r"<code>job.yaml</code>, line (\d+)", page)].count(3) == 1
    for text in (b"\xff\xfe", b"a: [", b"- x\n", b""):
        page = await shown.get((await uploaded(shown, FILES | {"job.yaml": text})).text)
        assert page.status_code == 200
        assert "problems found" in page.text


async def test_hostile_files_are_text(shown):
    wrong = f"name: tumours\nworkflow: '{EVIL}'\ntrainer: train.py\n".encode()
    page = (await shown.get((await uploaded(shown, FILES | {"job.yaml": wrong})).text)).text
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"job.yaml": JOB, "../x": b""}, "a job cannot carry this file"),
        ({"job.yaml": JOB, "/etc/passwd": b""}, "a job cannot carry this file"),
        ({"job.yaml": JOB, "a\\b": b""}, "a job cannot carry this file"),
        ({"job.yaml": JOB, ".ssh/id": b""}, "a job cannot carry this file"),
        ({"job.yaml": JOB, "A.py": b"", "a.py": b""}, "a job cannot carry this file"),
        ({"job.yaml": JOB, "e\u0301": b"", "\u00e9": b""}, "is in the folder twice"),
        ({"sub/job.yaml": JOB}, "the folder has no job.yaml"),
        ({}, "the folder has no job.yaml"),
        ({"job.yaml": JOB} | {f"{number}.py": b"" for number in range(bundle.MAX_FILES)}, "too many for a job"),
        ({"job.yaml": JOB, "big": bytes(bundle.MAX_BYTES)}, "too many for a job"),
    ],
    ids=["parent", "absolute", "backslash", "hidden", "case", "unicode", "below", "empty", "many", "large"],
)
async def test_files_that_no_bundle_may_hold_are_refused(shown, files, said):
    answer = await uploaded(shown, files)
    assert answer.status_code == 400
    assert said in answer.text
    assert "What to do" in answer.text


LISTED = b'[["job.yaml",1]]'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff",
        b"\x02\0\0\0[",
        b"\x02\0\0\0[]x",
        b"\x02\0\0\0{}",
        b"\x04\0\0\0null",
        len(LISTED).to_bytes(4, "little") + LISTED,
        len(LISTED).to_bytes(4, "little") + LISTED + b"ab",
        b"\x12\0\0\0" + b'[["job.yaml",-1]] ' + b"",
        b"\x14\0\0\0" + b'[["job.yaml",true]] ' + b"a",
        b"\x0e\0\0\0" + b'[[1,1],["a"]] ' + b"a",
        b"\x10\0\0\0" + b"[" * 16,
    ],
)
def test_an_upload_that_is_none_is_refused(data):
    with pytest.raises(BadInput):
        unframed(data)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda it: len(it).to_bytes(4, "little") + it))
def test_no_upload_is_a_bug(data):
    with pytest.raises(BadInput):
        unframed(data)


NAMES = st.lists(st.tuples(st.text(max_size=12), st.integers(0, 3)), max_size=6)


@given(NAMES)
def test_what_is_taken_can_be_signed(names):
    files = {"job.yaml": JOB} | {path: bytes(size) for path, size in names}
    try:
        taken, left_out = unframed(framed(files))
    except BadInput:
        return
    assert len(taken) + left_out == len(files)
    assert paths.problem(sorted(taken)) == ""
    assert taken["job.yaml"] == files["job.yaml"]


async def test_an_upload_needs_the_header_and_has_a_limit(shown, monkeypatch):
    for headers in ({"x-convoy-csrf": "guess"}, {"x-convoy-csrf": ""}, {"origin": "http://evil.example"}):
        answer = await uploaded(shown, FILES, **headers)
        assert answer.status_code == 403
    monkeypatch.setattr(drafts, "MAX_UPLOAD", 100)
    assert (await uploaded(shown, FILES)).status_code == 400
    assert shown.session.csrf not in (await uploaded(shown, FILES)).text.replace('name="csrf"', "")


def test_only_the_newest_drafts_are_kept():
    kept = Drafts()
    made = [kept.add("here", FILES).id for _ in range(drafts.MAX_DRAFTS + 2)]
    assert list(kept.kept) == made[2:]
    with pytest.raises(NotFound, match="not here any more"):
        kept.get(made[0])


async def test_a_folder_of_this_machine_is_read(rest, shown, tmp_path):
    folder = tmp_path / "tumours"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    answer = await shown.post("/submit/folder", {"folder": str(folder)})
    assert answer.status_code == 303
    page = (await shown.get(answer.headers["location"])).text
    assert str(folder) in page
    (folder / "train.py").write_bytes(b"swapped after the check")
    sent = await shown.post(answer.headers["location"], {"digest": digest_in(page)})
    async with rest.client() as client:
        found = await client.bundle(sent.headers["location"].removeprefix("/jobs/"))
    assert bytes(found.files["train.py"]) == TRAIN
    (folder / "link").symlink_to("/etc/passwd")
    assert (await shown.post("/submit/folder", {"folder": str(folder)})).status_code == 400
    for text in (
        "",
        "/",
        "relative",
        "~nobody-of-this-name/x",
        "/a\0b",
        f"{tmp_path}/none",
        "x" * 5000,
        "/" + "x" * 5000,
    ):
        answer = await shown.post("/submit/folder", {"folder": text})
        assert answer.status_code == 400, text


async def test_a_job_that_the_server_refuses_can_be_submitted_again(rest):
    async with rest.client("look@a.org") as client, logged_in(client) as shown:
        assert 'href="/submit"' not in (await shown.get("/")).text
        path = (await uploaded(shown, FILES)).text
        page = (await shown.get(path)).text
        for _ in range(2):
            assert (await shown.post(path, {"digest": digest_in(page)})).status_code == 403


async def test_a_job_of_which_no_answer_came_is_sent_again_as_the_same_job(rest, shown, monkeypatch):
    sent = []

    async def lost(_client, bundle):
        sent.append(bundle)
        if len(sent) == 1:
            raise Unreachable("the server does not answer")
        return Sent("ab" * 16, "tumours")

    monkeypatch.setattr("convoy.admin.client.Client.send", lost)
    path = (await uploaded(shown, FILES)).text
    confirmed = {"digest": drafts.Draft("", "", FILES).digest()}
    assert (await shown.post(path, confirmed)).status_code >= 400
    assert (await shown.post(path, confirmed)).status_code == 303
    assert sent[0] == sent[1]
