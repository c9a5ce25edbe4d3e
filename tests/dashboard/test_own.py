"""The dashboard of a site's owner over the real files of a site: what its pages show, push, approve and refuse."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import pytest

from convoy.control.costs import Cost
from convoy.control.records import Answer
from convoy.dashboard import serve
from convoy.errors import Refused
from convoy.owner import consent
from convoy.provision.kits import provision
from convoy.site import admission, bundles, history, refusals
from convoy.site.history import History
from convoy.site.record import Flows, Record
from convoy.spec.kit import read_kit
from convoy.spec.policy import PolicyFile
from convoy.spec.project import read_project
from convoy.trust import bundle
from tests.dashboard.conftest import Shown
from tests.dashboard.test_pages import events

EVIL = '"><script>alert(1)</script>\u202e'
PROJECT = """
api_version: 3
name: clinics
participants:
  - {name: server, type: server, org: a}
  - {name: site-1, type: client, org: a}
  - {name: root@x.org, type: admin, org: x, role: project_admin}
  - {name: lead@a.org, type: admin, org: a, role: lead}
  - {name: lead@b.org, type: admin, org: b, role: lead}
"""
JOB = b"name: tumours\ntrainer: train.py\n"
NEVER_S = 1000.0  # longer than any test: what pages hear of, a change of a file has told
NO_FLOWS, FLOWS = Flows(), Flows(live=9, log=77)
PLACES = ("/", "/data", "/ran", "/left", "/refused", "/policy")


class Owned:
    """A site's kit with a working folder, into which jobs are put as the site's agent does it."""

    def __init__(self, prod):
        self.prod, self.kit = prod, read_kit(prod / "site-1")
        self.kit.work.mkdir(exist_ok=True)
        (self.kit.local / "data").mkdir()
        (self.kit.local / "data" / "images.csv").write_text("secret,rows\n" * 10)
        settings = "data: {images: data/images.csv, scans: data, gone: data/none, lake: s3://b/k}\n"
        (self.kit.local / "node.yaml").write_text(settings)
        self.history = History(self.kit.work, pytest.fail)

    def signed(self, who, files):
        keys = self.prod / who / "startup"
        pair = {"key_pem": (keys / "node.key").read_bytes(), "cert_pem": (keys / "node.crt").read_bytes()}
        return bundle.pack(files, project="clinics", submitter=who, now=time.time(), **pair)

    def offered(self, who, files):
        """Bring a bundle to the site; return the job's folder, its admission, and the refusal."""
        data = self.signed(who, files)
        known = bundle.verify(data, root_pem=self.kit.root_file.read_bytes(), project="clinics", now=time.time())
        folder = self.kit.work / "jobs" / known.id
        folder.mkdir(parents=True)
        (folder / "bundle").write_bytes(data)
        rules = PolicyFile(self.kit.local / "policy.yaml")
        try:
            return folder, admission.admit(data, known.id, folder, self.kit, rules), known
        except Refused as problem:
            self.record(folder).refused(str(problem))
            return folder, None, known

    def record(self, folder, flows=NO_FLOWS):
        return Record(folder.name, folder, self.history, lambda: flows)

    def ran(self, who="lead@a.org", files=None, *, ends="the job is over", metrics=("loss",), flows=FLOWS):
        """Let a job run to its end, or not."""
        folder, admitted, known = self.offered(who, files or {"job.yaml": JOB, "train.py": b"import convoy\n"})
        record = self.record(folder, flows)
        bundles.keep(folder / "bundle", self.kit.work, known.digest)
        record.begun(admitted, ["images", "scans"], ["scans"])
        question = SimpleNamespace(id="1.0", round=1, kind="train")
        given = dict.fromkeys(metrics, 0.5)
        record.answered(Answer("1.0", "e" * 64, metrics=given), question, 4096, ["clip norm=1"], Cost(cpu_s=3))
        if ends:
            record.ended(ends)
        return folder, known

    @asynccontextmanager
    async def shown(self):
        async with (
            serve.serving_site(self.kit, pause_s=0.1, ages_s=NEVER_S) as session,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{session.port}", trust_env=False) as browser,
        ):
            answer = await browser.get(session.url)
            assert answer.status_code == 303, answer.text
            yield Shown(session, browser)


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    project, _ = read_project(PROJECT, "project.yml")
    return provision(project, tmp_path_factory.mktemp("w"), now=time.time() - 60, offline=True)


@pytest.fixture
def owned(kits, tmp_path):
    return Owned(shutil.copytree(kits, tmp_path / "kits"))


async def test_every_page_works_at_a_site_that_never_ran(owned):
    async with owned.shown() as shown:
        for place in PLACES:
            answer = await shown.get(place)
            assert answer.status_code == 200, (place, answer.text)
        page = (await shown.get("/")).text
    assert "the site&#39;s agent is not running" in page
    assert "site-1" in page
    assert "left" in page  # the life of its certificate


async def test_who_ran_what_is_shown_after_the_files_of_the_job_are_gone(owned):
    folder, known = owned.ran()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    async with owned.shown() as shown:
        listed = (await shown.get("/ran")).text
        page = (await shown.get(f"/ran/{folder.name}")).text
        files = (await shown.get(f"/ran/{folder.name}/files")).text
        nothing = (await shown.get("/ran?search=nobody")).text
        found = (await shown.get("/ran?search=images")).text
    for word in ("tumours", "lead@a.org", "images", "it completed"):
        assert word in listed
    assert "tumours" in found
    assert "tumours" not in nothing.split("<main")[1]
    for word in (known.digest, "clip norm=1", "4.0 KiB", "9 values left", "77 B", "loss", "scans"):
        assert word in page
    assert "import convoy" in files


async def test_what_left_is_summed_by_day_and_a_job_that_runs_is_shown_from_its_tally(owned):
    owned.ran()
    running, _ = owned.ran(ends="", metrics=("a", "b"))
    async with owned.shown() as shown:
        page = (await shown.get("/left")).text
        chart = json.loads((await shown.get("/left/series")).text)
        front = (await shown.get("/")).text
    day = time.strftime("%Y-%m-%d")
    row = re.sub(r"<[^>]+>", " ", page.split(f">{day}</td>")[1].split("</tr>")[0]).split()
    assert row[:4] == ["2", "8.0", "KiB", "3"]
    assert chart["series"][0]["values"][-2:] == [0, 2]
    assert f"/ran/{running.name}" in front.split("What jobs do here now")[1].split("This site")[0]


async def test_data_are_named_and_never_read(owned):
    owned.ran()
    (owned.kit.local / "policy.yaml").write_text(
        "run: [{org: own}]\ntables:\n  images: {only: statistics, minimum_count: 20}\n"
    )
    async with owned.shown() as shown:
        page = (await shown.get("/data")).text
    assert "secret" not in page
    assert "120 B" in page
    assert "not there" in page
    assert "at an address" in page
    assert "at least 20 rows" in page
    assert "policy.yaml:3" in page
    assert page.count("tumours") == 1


async def test_a_refused_bundle_is_read_compared_and_exactly_it_is_approved(owned):
    files = {"job.yaml": JOB, "train.py": b"import convoy\nx = 1\nold = 2\n", "same.py": b"same\n", "gone.py": b"g\n"}
    (owned.kit.local / "policy.yaml").write_text("run: [{org: own}]\n")
    _, _, first = owned.offered("lead@b.org", files)
    consent.approve(owned.kit, first.digest, "the first one", now=time.time())
    changed = {**files, "train.py": b"import convoy\nx = 1\nnew = '<b>'\n", "more.py": b"more\n"}
    del changed["gone.py"]
    run_folder = owned.kit.work / "jobs" / first.id
    record = owned.record(run_folder)
    admitted = admission.admit(
        (run_folder / "bundle").read_bytes(),
        first.id,
        run_folder,
        owned.kit,
        PolicyFile(owned.kit.local / "policy.yaml"),
    )
    bundles.keep(run_folder / "bundle", owned.kit.work, first.digest)
    record.begun(admitted, [], [])
    _, admitted, second = owned.offered("lead@b.org", changed)
    assert admitted is None
    async with owned.shown() as shown:
        listed = (await shown.get("/refused")).text
        assert f"/refused/{second.digest}" in listed
        assert f'/refused/{first.digest}"' not in listed
        page = (await shown.get(f"/refused/{second.digest}")).text
        assert "no rule of `run` fits a lead of b" in page
        assert "policy.yaml:1" in page
        for word in ("new file", "changed", "removed", "not changed", "new = &#39;&lt;b&gt;&#39;", "old = 2"):
            assert word in page, word
        path = f"/refused/{second.digest}/approve"
        assert (await shown.post(path, {"digest": first.digest})).status_code == 400
        assert (await shown.post(path, {"digest": second.digest, "csrf": "guess"})).status_code == 403
        assert second.digest not in {it.digest for it in consent.approved(owned.kit)}
        answer = await shown.post(path, {"digest": second.digest, "note": "read it"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/refused?done=later")
        approval = consent.approved(owned.kit)[-1]
        assert (approval.digest, approval.note) == (second.digest, "read it")
        assert "read it" in (await shown.get("/refused")).text
        answer = await shown.post(f"/refused/{second.digest}/withdraw")
        assert answer.status_code == 303
        assert [it.digest for it in consent.approved(owned.kit)] == [first.digest]
        assert (await shown.post(f"/refused/{second.digest}/withdraw")).status_code == 404


async def test_bytes_that_are_not_those_of_the_digest_are_neither_shown_nor_approved(owned):
    (owned.kit.local / "policy.yaml").write_text("run: []\n")
    folder, _, known = owned.offered("lead@b.org", {"job.yaml": JOB, "train.py": b"1\n"})
    other = owned.signed("lead@b.org", {"job.yaml": JOB, "train.py": b"evil\n"})
    (folder / "bundle").write_bytes(other)
    async with owned.shown() as shown:
        page = await shown.get(f"/refused/{known.digest}")
        assert page.status_code >= 400
        assert "are not those of the refused bundle" in page.text
        assert "evil" not in page.text
        answer = await shown.post(f"/refused/{known.digest}/approve", {"digest": known.digest})
        assert "are not those of the refused bundle" in answer.text
    assert consent.approved(owned.kit) == ()


async def test_the_policy_is_said_in_words_with_its_lines_and_a_broken_one_at_its_line(owned):
    file = owned.kit.local / "policy.yaml"
    file.write_text(
        "run:\n  - {org: own}\n  - {person: lead@b.org}\nleave: {logs: false}\nfilters:\n  - clip: {norm: 2}\n"
    )
    async with owned.shown() as shown:
        page = (await shown.get("/policy")).text
        for word in (
            "Everybody of the organisation a may run code here.",
            "stays here",
            "at most 2.",
            "policy.yaml:3",
            "default",
        ):
            assert word in page
        file.write_text("run:\n  - {org: own}\nleave: {logs: perhaps}\n")
        told = dict(await events(shown, "/policy/live", 4))
        broken = (await shown.get("/policy")).text
    assert "policy.yaml:3" in broken
    assert "no job is accepted" in broken
    assert set(told) >= {"banner"}


async def test_whether_a_job_would_run_here_is_said_with_the_rule(owned, tmp_path):
    (owned.kit.local / "policy.yaml").write_text("run: [{org: own}]\n")
    job = tmp_path / "tumours"
    job.mkdir()
    (job / "job.yaml").write_bytes(JOB)
    (job / "train.py").write_text("import convoy\n")
    async with owned.shown() as shown:
        yes = (await shown.post("/policy/check", {"place": str(job), "person": "lead@a.org"})).text
        no = (await shown.post("/policy/check", {"place": str(job), "person": "lead@b.org"})).text
        nowhere = (await shown.post("/policy/check", {"place": f"{job}/none", "person": "lead@b.org"})).text
        nobody = (await shown.post("/policy/check", {"place": str(job), "person": EVIL})).text
        for hostile in ("", "\0", "~nobody/x", "/proc/self/mem", "x" * 9000):
            answer = await shown.post("/policy/check", {"place": hostile, "person": "lead@a.org"})
            assert answer.status_code == 200, (hostile, answer.text)
            assert "Would this job run here?" in answer.text
    assert "Yes. site-1 would take tumours from lead@a.org" in yes
    assert "No. lead@b.org may not run code at site-1" in no
    assert "policy.yaml:1" in no
    assert "What to do:" in nowhere
    assert "not listed" in nobody
    assert "<script>alert" not in nobody


async def test_hostile_text_is_shown_as_text_on_every_page(owned):
    (owned.kit.local / "policy.yaml").write_text("run: [{org: own}]\n")
    folder, _ = owned.ran(metrics=(EVIL,))
    _, _, known = owned.offered("lead@b.org", {"job.yaml": JOB, "train.py": f"# {EVIL}\n".encode()})
    for kind in (history.STAYED, history.REFUSED):
        owned.history.note(kind, folder.name, reason=EVIL, question=EVIL, name=EVIL, submitter=EVIL, data=[EVIL])
    owned.history.note(
        history.BEGUN, "../../x", name=EVIL, submitter=EVIL, org=EVIL, role=EVIL, data=[EVIL], digest=EVIL
    )
    (owned.kit.work / "node.log").write_text(f"2026 [warning  ] {EVIL}\n")
    pages = (
        *PLACES,
        f"/ran/{folder.name}",
        f"/refused/{known.digest}",
        "/ran/%2e%2e%2f%2e%2e%2fx",
        "/ran/..%2f..%2fx/files",
    )
    async with owned.shown() as shown:
        for place in pages:
            answer = await shown.get(place)
            assert answer.status_code in (200, 404), (place, answer.text)
            assert "<script>alert" not in answer.text, place
            assert "\u202e" not in answer.text, place
        assert "alert(1)" in (await shown.get("/")).text


async def test_pages_hear_of_what_happens_at_the_site(owned):
    (owned.kit.local / "policy.yaml").write_text("run: [{org: own}]\n")
    async with owned.shown() as shown:
        opened = [asyncio.Event() for _ in range(3)]

        async def heard(path, word, begun):
            async with asyncio.timeout(20), shown.http.stream("GET", path) as answer:
                async for line in answer.aiter_lines():
                    begun.set()
                    if word in line:
                        return

        async with asyncio.TaskGroup() as group:
            group.create_task(heard("/ran/live", "tumours", opened[0]))
            group.create_task(heard("/refused/live", "was refused", opened[1]))
            group.create_task(heard("/policy/live", "Everybody of the organisation b may run code here", opened[2]))
            for it in opened:
                await it.wait()
            owned.ran()
            owned.offered("lead@b.org", {"job.yaml": JOB, "train.py": b"1\n"})
            (owned.kit.local / "policy.yaml").write_text("run: [{org: own}, {org: b}]\n")


async def test_strangers_get_nothing(owned):
    async with owned.shown() as shown:
        async with httpx.AsyncClient(base_url=shown.origin, trust_env=False) as other:
            for place in PLACES:
                assert (await other.get(place)).status_code == 403
            answer = await other.post("/policy/check", data={"place": "/etc"})
            assert answer.status_code == 403
        foreign = await shown.get("/", host="evil.example")
        assert foreign.status_code == 421


async def test_files_that_cannot_be_read_are_a_banner_and_the_rest_stays(owned):
    owned.ran()
    async with owned.shown() as shown:
        (owned.kit.local / "node.yaml").write_text("nonsense: 1\n")
        await asyncio.wait_for(_until(shown, "cannot be read"), 20)
        assert "tumours" in (await shown.get("/ran")).text
        (owned.kit.local / "node.yaml").unlink()
        os.unlink(owned.kit.local / "policy.yaml")
        await asyncio.wait_for(_until(shown, "no job is accepted"), 20)


async def _until(shown, word):
    async with shown.http.stream("GET", "/live") as answer:
        async for line in answer.aiter_lines():
            if word in line:
                return


def test_the_command_takes_the_kit_of_a_site_and_nothing_beside_it(owned):
    def typed(*words):
        command = [sys.executable, "-m", "convoy.cli.main", "dashboard", "--no-open", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stderr

    code, said = typed("--site", owned.prod / "lead@a.org")
    assert code == 4
    assert "is the kit of an admin" in said
    code, said = typed("--site", owned.kit.root, "--kit", owned.prod / "lead@a.org")
    assert code != 0
    assert "--site reads the files of a site" in said


async def test_what_the_page_does_not_show_in_full_is_named_beside_the_button(owned):
    files = {"job.yaml": JOB, "train.py": b"pass;" + b" " * 2100 + b"import evil\n", "z.bin": b"\0" * 10}
    folder, _, known = owned.offered("lead@b.org", files)
    assert (folder / refusals.NAME).exists()
    async with owned.shown() as shown:
        page = (await shown.get(f"/refused/{known.digest}")).text
    assert "Not shown in full:</strong> train.py, z.bin" in page
    assert "import evil" not in page
    assert page.count("not shown in full") == 2


def test_an_approval_that_is_withdrawn_does_not_come_back_by_another_one(owned, monkeypatch):
    first = "a" * 64
    consent.approve(owned.kit, first, "", now=time.time())
    kept, turn = consent._keep, threading.Event()

    def slow(kit, listed):
        turn.set()
        kept(kit, listed)

    monkeypatch.setattr(consent, "_keep", slow)
    with ThreadPoolExecutor(2) as pool:
        approving = [pool.submit(consent.approve, owned.kit, f"{n:064x}", "", now=time.time()) for n in range(20)]
        turn.wait()
        withdrawing = pool.submit(consent.withdraw, owned.kit, first)
        for it in (*approving, withdrawing):
            it.result()
    listed = {it.digest for it in consent.approved(owned.kit)}
    assert first not in listed
    assert listed == {f"{n:064x}" for n in range(20)}


async def test_a_history_that_cannot_be_read_is_a_banner_and_not_an_empty_history(owned, monkeypatch):
    owned.ran()
    refused = PermissionError(13, "Permission denied", str(owned.kit.work / "history.jsonl"))

    def denied(*_):
        raise refused

    monkeypatch.setattr("convoy.owner.account._bytes", denied)
    async with owned.shown() as shown:
        page = (await shown.get("/left")).text
    assert "Permission denied" in page
