"""Submitting, people, invitations and the audit trail in a real browser, over a real federation of processes."""

import json
from pathlib import Path

import axe_core_python
import pytest

from tests.dashboard.conftest import gated, photograph
from tests.federation import ADMIN
from tests.scenarios.conftest import write_job

pytestmark = [pytest.mark.scenario, pytest.mark.browser]

PAGES = ("people", f"people/{ADMIN}/revoke", "invite?kind=site", "audit", "submit", "sites/site-1")


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    with gated(tmp_path_factory.mktemp("people")) as made:
        yield made


def choose(page, folder):
    """Choose a folder as a person does in the browser's dialog."""
    root = page.ask("DOM.getDocument")["root"]["nodeId"]
    found = page.ask("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
    page.ask("DOM.setFileInputFiles", nodeId=found, files=[str(folder)])


def test_a_job_is_chosen_checked_mended_confirmed_watched_and_aborted(page, fed, tmp_path):
    folder = write_job(tmp_path / "tumours", rounds=4, gate=2)
    good = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text("name: tumours\nworkflow: fedavg\nwith:\n  round: 4\ntrainer: train.py\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "train.cpython-311.pyc").write_bytes(b"left behind")
    page.open(f"{page.origin}/submit")
    page.forget("Page.loadEventFired")
    choose(page, folder)
    page.browser.wait("Page.loadEventFired", page.session)
    assert "problems found" in page.text("h1")
    assert page.text(".excerpt .here").strip().endswith("round: 4")
    for look in ({}, {"dark": True}, {"width": 360, "height": 800}):
        page.look(**look)
        assert page.wider() == [], look
        photograph(page, tmp_path, f"submit-problems-{'dark' if 'dark' in look else 'narrow' if look else 'light'}")
    page.look()
    (folder / "job.yaml").write_text(good)
    page.open(f"{page.origin}/submit")
    page.forget("Page.loadEventFired")
    choose(page, folder)
    page.browser.wait("Page.loadEventFired", page.session)
    assert "checked" in page.text("h1")
    assert "__pycache__" not in page.text("main")
    photograph(page, tmp_path, "submit-draft-light")
    assert serious(page) == []
    page.look(width=360, height=800)
    photograph(page, tmp_path, "submit-draft-narrow")
    page.look()
    page.click("button.primary")
    page.until("location.pathname.startsWith('/jobs/')")
    job = page.run("location.pathname").removeprefix("/jobs/")
    for gate in fed.gates:
        gate.wait()
    page.open(f"{page.origin}/sites/site-1")
    page.until("document.querySelector('[sse-swap=facts]').innerText.includes('tumours')")
    assert "not renewed by itself" in page.text("[sse-swap=facts]"), "an offline kit: the root itself signed it"
    photograph(page, tmp_path, "site-with-job-light")
    with fed.session() as session:
        assert session.job(job).job.submitter == ADMIN
        session.abort(job)
    page.until("!document.querySelector('[sse-swap=facts]').innerText.includes('tumours')")


def test_a_folder_is_dropped(page, tmp_path):
    folder = write_job(tmp_path / "livers", rounds=1)
    (folder / "parts").mkdir()
    (folder / "parts" / "käse.py").write_text("# below, with a name that is no ASCII\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("left behind")
    page.open(f"{page.origin}/submit")
    place = json.loads(page.run("JSON.stringify(document.querySelector('.drop').getBoundingClientRect())"))
    where = {"x": place["left"] + 40, "y": place["top"] + 20}
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    page.forget("Page.loadEventFired")
    for kind in ("dragEnter", "dragOver", "drop"):
        page.ask("Input.dispatchDragEvent", type=kind, data=data, **where)
    page.browser.wait("Page.loadEventFired", page.session)
    assert "livers" in page.text("h1")
    assert "parts/käse.py" in page.text("main table")
    assert ".git" not in page.text("main table")


def test_what_cannot_be_a_job_is_said_where_it_was_dropped(page, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("meow")
    page.open(f"{page.origin}/submit")
    choose(page, tmp_path / "photos")
    page.until("document.querySelector('[data-upload-state]').innerText.includes('has no job.yaml')")
    assert page.run("location.pathname") == "/submit"
    page.forget("Log.entryAdded")  # the answer 400


def test_a_path_is_submitted_too_and_runs_to_its_end(page, fed, tmp_path):
    folder = write_job(tmp_path / "spleens", rounds=1)
    page.open(f"{page.origin}/submit")
    page.run(f"document.querySelector('#folder').value = {json.dumps(str(folder))}")
    page.click("form[action='/submit/folder'] button")
    page.until("document.querySelector('h1').innerText.includes('spleens')")
    page.until("document.querySelector('[name=digest]').form['htmx-internal-data'] !== undefined")
    page.click("button.primary")
    page.until("location.pathname.startsWith('/jobs/')")
    with fed.session() as session:
        assert session.wait(page.run("location.pathname").removeprefix("/jobs/")).job.state == "completed"


def test_a_site_is_revoked_and_invited_again(page, fed, tmp_path):
    page.open(f"{page.origin}/sites/site-2")
    page.click("[data-dialog=dialog-revoke]")
    page.click("dialog[open] form[method=post] button")
    page.until("document.querySelector('.notice')?.innerText.includes('revoked')")
    page.until("document.querySelector('[sse-swap=facts] .badge')?.innerText === 'revoked'")
    page.open(f"{page.origin}/invite?kind=site&name=site-2")
    page.click("form[action='/invite'] button")
    page.until("document.querySelector('#command') !== null")
    command = page.text("#command")
    assert command.startswith("convoy kit enrol KIT --token convoy1.")
    assert "convoy1" not in page.run("location.href")
    for look in ({}, {"dark": True}, {"width": 360, "height": 800}):
        page.look(**look)
        assert page.wider() == [], look
        photograph(page, tmp_path, f"invited-{'dark' if 'dark' in look else 'narrow' if look else 'light'}")
    page.look()
    page.browser.ask(
        "Browser.grantPermissions", origin=page.origin, permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    page.click("[data-copy]")
    page.until("document.querySelector('[data-copy]').innerText === 'Copied'")
    page.open(f"{page.origin}/invite?kind=site")
    assert command.split()[-1] not in page.text("body")
    assert "open" in page.text("main table")


def test_a_site_that_is_refused_again_and_again_is_one_problem(page):
    page.open(f"{page.origin}/audit?action=join&object=&text=site-2")
    page.until("document.querySelectorAll('#rows tbody tr').length > 2")  # it comes back every few seconds
    page.open(page.origin)
    assert page.text("[sse-swap=problems]").count("a site was refused") == 1


def test_the_trail_says_what_was_done_and_is_verified(page, tmp_path):
    page.open(f"{page.origin}/audit")
    page.until("document.querySelector('[sse-swap=verification]').innerText.includes('are complete and in order')")
    assert "site:site-2" in page.text("[sse-swap=rows]")
    page.run("document.querySelector('#action').value = 'revoke'")
    page.run("document.querySelector('#action').dispatchEvent(new Event('change', {bubbles: true}))")
    page.until("document.querySelectorAll('#rows tbody tr').length === 1")
    assert page.run("location.search").startswith("?")
    page.until("document.querySelector('[sse-swap=verification]').innerText.includes('are complete and in order')")
    page.click("form[action='/audit/verify'] button")
    page.until("document.querySelector('[sse-swap=verification]').innerText.includes('are complete and in order')")


@pytest.mark.parametrize("look", [{}, {"dark": True}, {"width": 360, "height": 800}], ids=["light", "dark", "narrow"])
def test_every_page_fits_and_axe_finds_nothing_serious(page, tmp_path, look):
    kind = "dark" if "dark" in look else "narrow" if look else "light"
    page.look(**look)
    for name in PAGES:
        page.open(f"{page.origin}/{name}")
        if name == "audit":
            page.until("document.querySelector('[sse-swap=verification]').innerText.includes('are complete')")
        assert page.wider() == [], name
        photograph(page, tmp_path, f"{name.partition('?')[0].replace('/', '-')}-{kind}")
        assert serious(page) == [], name


def serious(page):
    """Return what axe finds on the page that is there now."""
    page.run((Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
    told = json.loads(page.run("axe.run().then((it) => JSON.stringify(it.violations))"))
    return [
        (it["id"], [node["html"] for node in it["nodes"]]) for it in told if it["impact"] in ("serious", "critical")
    ]
