"""The dashboard in a real browser, over a real federation: logged in by the printed address, looked at, used."""

import json
import signal
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import axe_core_python
import pytest

from tests.dashboard.conftest import dashboard, photograph
from tests.federation import Federation
from tests.scenarios.conftest import GATES, Gate, adding, write_job

pytestmark = [pytest.mark.scenario, pytest.mark.browser]

EVIL = "<img src=x onerror=document.title=1>"
STOP = f'raise ValueError("{EVIL}")'


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    """Two sites, a job that failed with a hostile text, and one that waits at the gate of its third round."""
    folder = tmp_path_factory.mktemp("dashboard")
    made = Federation(folder / "fed", sites=2, settings=GATES)
    gates = [Gate(node.kit / "local") for node in made.nodes.values()]
    made.up()
    with made.session() as session:
        failed = session.submit(write_job(folder / "spleens", train=adding(STOP)))
        for _ in session.watch(failed.id):
            pass
        session.submit(write_job(folder / "tumours", rounds=8, gate=3))
        for gate in gates:
            gate.wait()
    yield made
    made.down()


def test_a_person_sees_the_federation_in_their_colours_and_on_a_phone(page, tmp_path):
    assert page.run("location.pathname + location.search") == "/"
    page.until("document.querySelectorAll('.strips .badge.good').length === 2")
    page.until("document.querySelector('.chart canvas') !== null")
    assert "tumours" in page.text("[sse-swap=active]")
    assert page.run("document.querySelector('[sse-swap=active] progress').value") == 2
    for name in ("", "jobs", "sites", "sites/site-1"):
        page.open(f"{page.origin}/{name}")
        picture = name.replace("/", "-") or "overview"
        for look in ({}, {"dark": True}, {"width": 360, "height": 800}):
            page.look(**look)
            if not name:
                page.until("document.querySelector('.chart canvas') !== null")
            assert page.wider() == [], (name, look)
            photograph(page, tmp_path, f"{picture}-{'dark' if 'dark' in look else 'narrow' if look else 'light'}")


@pytest.mark.parametrize("look", [{}, {"dark": True}, {"width": 360}], ids=["light", "dark", "narrow"])
def test_axe_finds_nothing_serious(page, look):
    axe = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
    page.look(**look)
    found = []
    for name in ("", "jobs", "sites", "sites/site-1", "nowhere"):
        page.open(f"{page.origin}/{name}")
        if not name:
            page.until("document.querySelector('.chart canvas') !== null")
        page.run(axe)
        told = json.loads(page.run("axe.run().then((it) => JSON.stringify(it.violations))"))
        found += [
            (name, it["id"], it["impact"], [node["html"] for node in it["nodes"]])
            for it in told
            if it["impact"] in ("serious", "critical")
        ]
    assert found == []
    page.forget("Log.entryAdded")  # that one page is not there


def test_the_switch_of_colours_is_remembered(page):
    page.look()
    light = page.run("getComputedStyle(document.body.parentElement).backgroundColor")
    page.click("[data-theme-switch]")
    page.click("[data-theme-switch]")
    assert page.run("document.documentElement.dataset.theme") == "dark"
    page.open(f"{page.origin}/sites")
    assert page.run("document.documentElement.dataset.theme") == "dark"
    assert page.run("getComputedStyle(document.body.parentElement).backgroundColor") != light


def test_a_hostile_text_is_shown_as_text(page):
    page.open(f"{page.origin}/jobs")
    assert EVIL in page.text("main")
    assert page.run("document.querySelectorAll('main img').length") == 0
    assert page.run("document.title") == "Jobs · bench · Convoy"


def test_a_site_is_disabled_and_enabled_after_a_question_and_the_page_hears_of_it(page, fed, tmp_path):
    page.open(f"{page.origin}/sites/site-2")
    page.click("[data-dialog=dialog-disable]")
    assert page.run("document.querySelector('dialog[open]').id") == "dialog-disable"
    photograph(page, tmp_path, "site-dialog")
    page.click("dialog[open] form[method=dialog] button")
    assert page.run("document.querySelector('dialog[open]')") is None
    page.click("[data-dialog=dialog-disable]")
    page.click("dialog[open] form[method=post] button")
    page.until("document.querySelector('.notice')?.innerText === 'The site is disabled.'")
    assert page.run("location.pathname") == "/sites/site-2"
    with fed.session() as session:
        assert [site.name for site in session.sites() if not site.enabled] == ["site-2"]
        page.until("document.querySelector('[sse-swap=facts] .badge')?.innerText === 'disabled'")
        session.enable("site-2")
    page.until("document.querySelector('[sse-swap=facts] .badge')?.innerText === 'connected'")


def test_what_a_person_works_on_waits_for_news_and_stays_where_it_was(page, fed):
    page.look(width=360)
    page.open(f"{page.origin}/jobs")
    page.run("document.querySelector('#rows .scroll').scrollLeft = 120")
    page.run("document.querySelector('#rows .scroll').focus()")
    page.run("window.old = document.querySelector('#rows table')")
    page.until("!window.old.isConnected")  # a look at the server has replaced the table
    assert page.run("document.querySelector('#rows .scroll').scrollLeft") == 120
    assert page.run("document.activeElement === document.querySelector('#rows .scroll')")
    page.open(page.origin)
    page.run("document.querySelector('.strips a').focus(); window.mine = document.activeElement")
    with fed.session() as session:
        session.enable("site-2", enabled=False)
        page.until("document.querySelector('[sse-swap=news]').innerText.includes('Site site-2 is disabled.')")
        assert page.run("window.mine === document.activeElement && window.mine.isConnected")
        assert "disabled" not in page.text("[sse-swap=strips]")
        page.run("window.mine.blur()")
        page.until("document.querySelector('[sse-swap=strips]').innerText.includes('disabled')")
        session.enable("site-2")
        page.until("document.querySelector('[sse-swap=news]').innerText.includes('Site site-2 is connected.')")


def test_a_search_finds_while_it_is_typed(page):
    page.open(f"{page.origin}/jobs")
    page.run("document.querySelector('#begins').focus()")
    page.ask("Input.insertText", text="spl")
    page.until("document.querySelectorAll('#rows tbody tr').length === 1")
    assert "spleens" in page.text("#rows")
    assert page.run("location.search") == "?begins=spl"


def test_the_chart_shows_values_where_the_pointer_is_and_as_a_table(page):
    page.until("document.querySelector('.chart canvas') !== null")
    box = page.run("JSON.stringify(document.querySelector('.chart .u-over').getBoundingClientRect())")
    box = json.loads(box)
    page.run("document.querySelector('.chart').scrollIntoView({block: 'center'})")
    box = json.loads(page.run("JSON.stringify(document.querySelector('.chart .u-over').getBoundingClientRect())"))
    page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=box["right"] - 3, y=box["top"] + box["height"] / 2)
    page.until("document.querySelector('.u-legend').innerText.match(/Sites connected:?\\s*[12]/)")
    page.click(".chart summary")
    assert "Sites connected" in page.text(".chart details thead")
    assert page.run("document.querySelectorAll('.chart details tbody tr').length") >= 1


@contextmanager
def hostile(text):
    """Serve a page of another origin; it gets the cookies of 127.0.0.1, as every port does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


ATTACK = """<!doctype html><iframe src="TARGET/"></iframe><form method=post action="TARGET/sites/site-1/disable">
<input name=csrf value=guess></form><script>
const tries = [
  fetch("TARGET/", {credentials: "include"}).then((it) => it.text()),
  fetch("TARGET/", {credentials: "include", mode: "no-cors"}).then((it) => it.type + it.status),
  fetch("TARGET/sites/site-1/disable", {method: "POST", credentials: "include", mode: "no-cors",
    body: new URLSearchParams({csrf: "guess"})}).then((it) => it.type),
  new Promise((done) => { const it = new EventSource("TARGET/overview/live", {withCredentials: true});
    it.onmessage = it.onopen = () => done("heard"); it.onerror = () => done("nothing"); }),
  new Promise((done) => { const it = new Image(); it.onload = () => done("seen"); it.onerror = () => done("nothing");
    it.src = "TARGET/assets/convoy.svg"; }),
];
window.found = Promise.allSettled(tries).then((all) => all.map((it) => it.value ?? "refused"));
</script>"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_hostile_page_in_the_same_browser_neither_reads_nor_acts(page, fed, host):
    with hostile(ATTACK.replace("TARGET", page.origin)) as port:
        page.open(f"http://{host}:{port}/")
        found = page.run("window.found")
        assert found[0] == "refused"
        assert found[1] in ("refused", "opaque0")
        assert "bench" not in json.dumps(found)
        assert found[3:] == ["nothing", "nothing"]
        page.forget("Page.loadEventFired")
        page.run("document.forms[0].submit()")
        page.browser.wait("Page.loadEventFired", page.session)
        assert "did not come from a page of the dashboard" in page.text()
        with fed.session() as session:
            assert all(site.enabled for site in session.sites())
    page.forget("Log.entryAdded")  # what the browser says of the attacks


def test_the_address_opens_no_second_browser(page, chromium, fed):
    with dashboard(fed) as (_, url), chromium.page() as first, chromium.page() as second:
        first.open(url)
        second.open(url)
        assert "works once" in second.text()
        second.forget("Log.entryAdded")


def test_a_page_of_a_dashboard_that_began_before_its_server_is_made_again(fed, chromium):
    fed.server.stop()
    with dashboard(fed) as (_, url), chromium.page() as page:
        page.open(url)
        assert "Nothing is known yet." in page.text("main")
        assert "Sites" not in page.text("nav")
        page.forget("Page.loadEventFired")
        fed.server.start()
        page.browser.wait("Page.loadEventFired", page.session)
        assert "Sites" in page.text("nav")
        assert "project_admin" in page.text(".who")


def test_a_server_that_is_away_is_said_and_comes_back_and_ctrl_c_ends_all(page, fed, tmp_path):
    fed.server.stop()
    page.until("document.querySelector('.banner')?.innerText.includes('does not answer')")
    photograph(page, tmp_path, "overview-away")
    page.open(f"{page.origin}/jobs")
    assert "This did not work" in page.text("main")
    page.open(page.origin)
    fed.server.start()
    page.until("document.querySelector('.banner') === null")
    page.forget("Log.entryAdded")  # the answer 503
    page.process.send_signal(signal.SIGINT)
    assert page.process.wait(20) == 0
    assert page.process.stderr.read() == ""
    page.forget("Log.entryAdded")
