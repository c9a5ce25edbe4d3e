"""The pages of a job in a real browser over a real federation: watched to its end, aborted, cloned, read, searched."""

import json
from pathlib import Path

import axe_core_python
import pytest

from tests.dashboard.conftest import gated, photograph
from tests.dashboard.test_browser import EVIL
from tests.scenarios.conftest import adding, put_job

pytestmark = [pytest.mark.scenario, pytest.mark.browser]

BODY = f"""
print("round", task.round, "begins at", task.site, "with {EVIL}")
for step in range(25):
    at = 25 * task.round + step
    convoy.metrics({{"loss": 1 / (1 + at) + number / 50}}, step=at, phase="train")
    print("step", step, "of round", task.round)
if task.round == task.config["gate"]:
    gate(task)
if task.round == 2 and number == 2:
    raise ValueError("{EVIL} the scanner is off")
"""
FLOW = """
import json
import convoy
import numpy as np

SAID = {
    "tables": [{"title": "all rows: 50", "heads": ["column", "mean"], "rows": [["age", "61.2"], ["bmi", "24.1"]]}],
    "columns": {"age": {"histogram": {"edges": [0, 20, 40, 60, 80], "counts": [3, 14, 26, 7]}}},
    "pictures": [
        {"kind": "lines", "name": "survival", "x": "years", "lines": [
            {"label": "treated", "x": [0, 1, 2, 3], "y": [1, 0.9, 0.8, 0.75]},
            {"label": "not treated", "x": [0, 1, 2, 3], "y": [1, 0.7, 0.5, 0.45]}]},
        {"kind": "bars", "name": "components", "labels": ["1", "2", "3"], "heights": [0.7, 0.2, 0.1]},
    ],
}

async def run(fleet):
    async for round in fleet.rounds(1):
        told = {f"auc:{a}@{b}": 0.5 + 0.1 * n + 0.05 * m
                for n, a in enumerate(("site-1", "site-2", "all")) for m, b in enumerate(("site-1", "site-2"))}
        text = np.frombuffer(json.dumps(SAID).encode(), np.uint8)
        await round.commit({"statistics.json": text}, metrics=told)
"""
TABS = ("", "curves", "rounds", "rounds/2", "updates", "resources", "logs", "results", "files", "compare", "clone")


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    with gated(tmp_path_factory.mktemp("jobs")) as made:
        yield made


def submit(fed, folder, gate=4, rounds=6, **config):
    """Submit a job that waits at the gate in one round; return its id when it stands there."""
    job = put_job(
        folder,
        {"train.py": adding(BODY), "notes.txt": f"{EVIL}\n"},
        with_={"rounds": rounds, "min_sites": 1},
        config={"gate": gate} | config,
        patience="10m",
    )
    with fed.session() as session:
        sent = session.submit(job).id
    for waiting in fed.gates if gate else ():
        waiting.wait()
    return sent


def let_go(fed):
    for gate in fed.gates:
        gate.open()


def follow(page, selector):
    """Click a link and wait until its page is loaded."""
    page.forget("Page.loadEventFired")
    page.click(selector)
    page.browser.wait("Page.loadEventFired", page.session)


def serious(page):
    """Return what axe finds on the page that is serious."""
    page.run((Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
    told = json.loads(page.run("axe.run().then((it) => JSON.stringify(it.violations))"))
    return [
        (it["id"], [node["html"][:200] for node in it["nodes"]])
        for it in told
        if it["impact"] in ("serious", "critical")
    ]


def test_a_job_is_submitted_watched_to_its_end_and_its_results_are_downloaded(page, fed, tmp_path):
    job = submit(fed, tmp_path / "tumours")
    page.open(f"{page.origin}/jobs")
    follow(page, "#rows tbody a")
    assert page.run("location.pathname") == f"/jobs/{job}"
    page.until("document.querySelector('[sse-swap=now] .question')")
    assert "2 still to answer" in page.text("[sse-swap=now]")
    assert "Waiting for site-1, site-2." in page.text("[sse-swap=now]")
    page.until("document.querySelector('[sse-swap=feed]').innerText.includes('Left out of round 2: site-2')")
    page.until("document.querySelector('.chart canvas') !== null")
    before = page.text("[sse-swap=now] time")
    page.until(f"document.querySelector('[sse-swap=now] time').innerText !== {json.dumps(before)}")
    photograph(page, tmp_path, "job-running")
    let_go(fed)
    page.until("document.querySelector('[sse-swap=head] .badge').innerText === 'completed'")
    page.until("document.querySelector('[sse-swap=feed]').innerText.includes('The job is completed')")
    page.until("document.querySelector('.chart details tbody').children.length === 6")
    assert page.run("document.querySelector('[data-dialog=dialog-abort]')") is None
    assert "Delete" in page.text("[sse-swap=verbs]")
    page.open(f"{page.origin}/jobs/{job}/results")
    assert (
        page.run(
            "fetch(document.querySelector('.files a[href$=\"model.safetensors\"]').href).then((it) => it.arrayBuffer())"
            ".then((it) => it.byteLength)"
        )
        > 50
    )


@pytest.mark.timeout(400)  # thirty-three pictures
def test_each_page_looks_right_and_axe_finds_nothing_serious(page, fed, tmp_path):
    job = submit(fed, tmp_path / "spleens")
    submit(fed, tmp_path / "again" / "spleens", gate=0, rounds=3)
    found = []
    for name in TABS:
        for look in ({}, {"dark": True}, {"width": 360, "height": 800}):
            page.look(**look)
            page.open(f"{page.origin}/jobs/{job}/{name}".rstrip("/"))
            if name == "compare":
                follow(page, ".plain-list a")
            if page.run("document.querySelector('.chart') !== null"):
                page.until(
                    "document.querySelectorAll('.chart canvas').length === document.querySelectorAll('.chart').length"
                )
            if name == "logs":
                page.until("document.querySelectorAll('#log li').length > 50")
            assert "This did not work" not in page.text("main"), name
            assert page.run("document.querySelectorAll('main img').length") == 0, name
            assert page.wider() == [], (name, look)
            kind = "dark" if "dark" in look else "narrow" if look else "light"
            photograph(page, tmp_path, f"job-{name.replace('/', '-') or 'overview'}-{kind}")
            found += [(name, kind, it) for it in serious(page)]
    let_go(fed)
    assert found == []


def test_statistics_and_metrics_of_models_at_sites_are_shown(page, fed, tmp_path):
    files = {"flow.py": FLOW, "train.py": adding()}
    with fed.session() as session:
        job = session.submit(put_job(tmp_path / "crossed", files, workflow="flow.py:run")).id
        last = list(session.watch(job))[-1]
    assert last.job.state == "completed", last.job.cause
    found = []
    for kind, look in {"light": {}, "dark": {"dark": True}, "narrow": {"width": 360, "height": 800}}.items():
        page.look(**look)
        page.open(f"{page.origin}/jobs/{job}/results")
        page.until("document.querySelector('.chart canvas') !== null")
        assert page.wider() == []
        photograph(page, tmp_path, f"job-statistics-{kind}")
        found += [(kind, it) for it in serious(page)]
    assert found == []
    assert page.run("document.querySelectorAll('.heat td').length") == 6
    assert "0.75" in page.text(".heat")
    assert "61.2" in page.text("main")
    assert "statistics.json" in page.text(".files")


def test_a_job_is_aborted_after_a_question_and_cloned_after_its_files_were_shown(page, fed, tmp_path):
    job = submit(fed, tmp_path / "livers")
    page.open(f"{page.origin}/jobs/{job}")
    page.click("[data-dialog=dialog-abort]")
    assert page.run("document.querySelector('dialog[open]').id") == "dialog-abort"
    page.click("dialog[open] form[method=post] button")
    page.until("document.querySelector('.notice')?.innerText === 'The job is aborted.'")
    page.until("document.querySelector('[sse-swap=head] .badge').innerText === 'aborted'")
    page.open(f"{page.origin}/jobs/{job}/clone")
    assert "train.py" in page.text("main")
    page.click("form[action$='/clone'] button")
    page.until("document.querySelector('.notice')?.innerText.includes('submitted under your name')")
    new = page.run("location.pathname")
    assert new != f"/jobs/{job}"
    for gate in fed.gates:
        gate.wait()
    page.until("document.querySelector('[sse-swap=now] .question')")
    let_go(fed)
    page.until("document.querySelector('[sse-swap=head] .badge').innerText === 'completed'")
    page.until("document.querySelector('[data-dialog=dialog-delete]') && !document.querySelector('.htmx-settling')")
    page.click("[data-dialog=dialog-delete]")
    page.click("dialog[open] form[method=post] button")
    page.until("location.pathname === '/jobs'")
    with fed.session() as session:
        assert new.rsplit("/", 1)[1] not in [it.id for it in session.jobs()]


def test_the_log_is_searched_while_it_grows(page, fed, tmp_path):
    job = submit(fed, tmp_path / "kidneys")
    page.open(f"{page.origin}/jobs/{job}/logs?site=site-1")
    page.until("document.querySelectorAll('#log li').length > 50")
    assert "site-2" not in page.text("#log")
    page.run("document.querySelector('#log-find').focus()")
    page.ask("Input.insertText", text="BEGINS at")
    page.until("document.querySelectorAll('#log .match').length === 4")
    assert page.text("#log-count") == "4 lines match"
    page.click("[data-log-jump='1']")
    assert "round 1 begins" in page.text("#log .here")
    page.click("[data-log-jump='-1']")
    assert "round 4 begins" in page.text("#log .here")
    page.click("#log-only")
    assert page.run("[...document.querySelectorAll('#log li')].filter((it) => it.offsetHeight).length") == 4
    let_go(fed)
    page.until("document.querySelectorAll('#log .match').length === 6")
    assert page.text("#log-count") == "6 lines match"


def test_a_page_of_results_hears_that_the_job_has_ended(page, fed, tmp_path):
    job = submit(fed, tmp_path / "hearts")
    page.open(f"{page.origin}/jobs/{job}/results")
    assert "The results are here when the job has ended." in page.text("main")
    let_go(fed)
    page.until("document.querySelector('[sse-swap=results] a')")
    follow(page, "[sse-swap=results] a")
    assert "model.safetensors" in page.text("main")


def test_a_file_is_read_with_the_numbers_of_its_lines(page, fed, tmp_path):
    job = submit(fed, tmp_path / "lungs", gate=0, rounds=1)
    page.open(f"{page.origin}/jobs/{job}/files")
    follow(page, "main a[href$='name=notes.txt']")
    photograph(page, tmp_path, "job-file")
    assert EVIL in page.text("pre.code")
    assert page.run("document.querySelectorAll('main img').length") == 0
    assert page.run("getComputedStyle(document.querySelector('pre.code .row'), '::before').content") == "counter(row)"
