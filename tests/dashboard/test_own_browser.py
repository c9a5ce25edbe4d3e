"""The dashboard of a site's owner in a real browser, at a site of a real federation: watched, read, approved."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import axe_core_python
import pytest

from tests.dashboard.conftest import logged_in_tab, photograph
from tests.federation import Federation
from tests.scenarios.conftest import Gate, adding, write_job
from tests.scenarios.test_patience import until_member

pytestmark = [pytest.mark.scenario, pytest.mark.browser]

BO = "bo@clinic-b.org"
SETTINGS = "data: {arrived: arrived, gate: gate, patients: patients.csv}\nisolation: {write: [arrived, gate]}"
POLICY = """\
run:
  - {org: own}
  - {role: project_admin}
limits: {cpu: 4, memory: 8Gi}
leave: {logs: false, live: {keys: [loss], digits: 3}, weight: rounded}
filters:
  - clip: {norm: 50}
tables:
  patients: {only: statistics, minimum_count: 20}
"""
SPEAKS = 'print("secret of the site")\nconvoy.metrics({"loss": 0.5, "hidden": 1.0}, step=task.round)'
EVIL = "# <img src=x onerror=document.title=1>"
PLACES = ("", "data", "ran", "left", "refused", "policy")


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    """Two sites, a job that ended, and one that waits at the gate of its third round."""
    folder = tmp_path_factory.mktemp("own")
    made = Federation(folder / "fed", settings=SETTINGS, people={BO: ("clinic-b", "lead")})
    made.folder_of_jobs = folder
    made.gates = [Gate(node.kit / "local") for node in made.nodes.values()]
    (made.nodes["site-1"].kit / "local" / "policy.yaml").write_text(POLICY)
    (made.nodes["site-2"].kit / "local" / "policy.yaml").write_text("run: [{org: own}, {org: clinic-b}]\n")
    for node in made.nodes.values():
        (node.kit / "local" / "patients.csv").write_text("name,age\nErika Mustermann,93\n" * 1000)
    made.up()
    with made.session() as session:
        done = session.submit(write_job(folder / "spleens", train=adding(SPEAKS)))
        for _ in session.watch(done.id):
            pass
        made.done, made.running = done.id, session.submit(write_job(folder / "tumours", rounds=4, gate=3)).id
        for gate in made.gates:
            gate.wait()
    yield made
    made.down()


@contextmanager
def dashboard(kit):
    """Run `convoy dashboard --site` as the owner does; give its process and the address that it prints."""
    command = [sys.executable, "-m", "convoy.cli.main", "dashboard", "--no-open", "--site", str(kit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def page(fed, chromium):
    """A tab of the owner of site-1."""
    with dashboard(fed.nodes["site-1"].kit) as (process, url), logged_in_tab(chromium, process, url) as made:
        yield made


def looked_at(page, folder, place, name):
    """Open a page, look at it in light, in dark and on a phone, and let axe look."""
    page.open(f"{page.origin}/{place}")
    axe = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
    for kind, look in {"light": {}, "dark": {"dark": True}, "narrow": {"width": 360, "height": 800}}.items():
        page.look(**look)
        assert page.wider() == [], (name, kind)
        photograph(page, folder, f"own-{name}-{kind}")
        page.run(axe)
        found = json.loads(page.run("axe.run().then((it) => JSON.stringify(it.violations))"))
        serious = [
            (it["id"], [node["html"] for node in it["nodes"]])
            for it in found
            if it["impact"] in ("serious", "critical")
        ]
        assert serious == [], (name, kind)
    page.look()


def test_the_owner_sees_what_runs_and_what_left_on_every_page(page, fed, tmp_path):
    page.until("document.querySelector('.tiles dd').innerText === 'connected'")
    assert "tumours" in page.text("#now-title + .scroll")
    for place in PLACES:
        looked_at(page, tmp_path, place, place or "site")
        assert "Mustermann" not in page.text("main")
    looked_at(page, tmp_path, f"ran/{fed.done}", "job")
    told = page.text("main")
    for word in ("completed", "ada@example.org", "stayed here", "clip norm=50", "3 values left, 3 stayed here"):
        assert word in told, word
    assert "3 with" in told
    assert "arrived, gate" in told.split("Data it was given")[1].split("Code")[0]
    assert "patients" in told.split("Data that it was not given")[1].split("Code")[0]
    looked_at(page, tmp_path, f"ran/{fed.done}/files", "files")
    assert "secret of the site" in page.text("main")


def test_a_running_job_is_watched_to_its_end(page, fed):
    page.open(f"{page.origin}/ran/{fed.running}")
    assert "running" in page.text("main")
    for gate in fed.gates:
        gate.open()
    page.until("document.querySelector('.badge.good')?.innerText === 'completed'")
    assert "4 with" in page.text("main")
    kit = fed.nodes["site-1"].kit
    assert not (kit / "work" / "jobs" / fed.running).exists()


def test_a_bundle_is_approved_after_its_files_were_read_and_the_job_runs(page, fed, tmp_path):
    job = write_job(fed.folder_of_jobs / "livers", train=f"{EVIL}\n{adding()}")
    page.open(f"{page.origin}/refused")
    with fed.session(who=BO) as session:
        first = session.submit(job)
        page.until("document.querySelector('#waiting-title + .scroll a') !== null")
        looked_at(page, tmp_path, "refused", "refused-waiting")
        followed(page, "#waiting-title + .scroll a")
        page.until("document.querySelector('#decide-title') !== null")
        assert EVIL in page.text("main")
        assert page.run("document.querySelectorAll('main img').length") == 0
        looked_at(page, tmp_path, page.run("location.pathname")[1:], "bundle")
        page.run("document.querySelector('#note').value = 'read by Cem'")
        page.click(".decide button")
        page.until("document.querySelector('.notice')?.innerText.startsWith('The bundle is approved. The site')")
        assert ended(session, first.id).state == "completed"
        (job / "train.py").write_text(
            (job / "train.py").read_text().replace("w + number", "w + 2 * number") + "\n# more\n"
        )
        second = session.submit(job)
        until_member(session, second.id, "site-1", "refused")
        page.until("document.querySelector('#waiting-title + .scroll a') !== null")
        followed(page, "#waiting-title + .scroll a")
        page.until("document.querySelector('.listing .added') !== null")
        looked_at(page, tmp_path, page.run("location.pathname")[1:], "bundle-changed")
        assert "that you approved before" in page.text("main")
        session.abort(second.id)
    page.open(f"{page.origin}/refused")
    page.click("[data-dialog^=withdraw]")
    page.click("dialog[open] form[method=post] button")
    page.until("document.querySelector('.notice')?.innerText.startsWith('The approval is withdrawn')")
    assert "read by Cem" not in (fed.nodes["site-1"].kit / "local" / "approved.yaml").read_text()


def followed(page, link):
    """Follow a link, and wait until its page is there."""
    page.forget("Page.loadEventFired")
    page.click(link)
    page.browser.wait("Page.loadEventFired", page.session)


def ended(session, job):
    for _ in session.watch(job):
        pass
    return session.job(job).job


def test_the_pages_work_without_the_server_and_without_the_site(page, fed, tmp_path):
    fed.server.stop()
    page.until("document.querySelector('.tiles dd')?.innerText === 'not connected'")
    looked_at(page, tmp_path, "", "site-away")
    fed.nodes["site-1"].kill()
    page.until("document.querySelector('.tiles dd')?.innerText === 'not running'")
    page.open(f"{page.origin}/ran")
    assert "spleens" in page.text("main")
    fed.server.start()
    fed.nodes["site-1"].start()
    page.open(page.origin)
    page.until("document.querySelector('.tiles dd')?.innerText === 'connected'")
