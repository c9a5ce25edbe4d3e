"""Changes of a real federation as a browser hears of them, and the last hour as the server remembers it."""

import pytest

from convoy.server.following import QUIET_S
from tests.dashboard import chromium as browser
from tests.dashboard.conftest import dashboard, logged_in_tab
from tests.federation import Federation
from tests.scenarios.conftest import write_job

pytestmark = [pytest.mark.scenario, pytest.mark.browser]

STRIP = "[...document.querySelectorAll('.strips li:nth-of-type(%d) rect')].map((it) => it.className.baseVal).join(' ')"
PEER = "peer@example.org"


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    """Two sites and two people."""
    made = Federation(tmp_path_factory.mktemp("changes") / "fed", sites=2, people={PEER: ("org", "member")})
    made.up()
    yield made
    made.down()


def until_said(page, text):
    """Wait until a screen reader says something."""
    page.until(f"document.querySelector('[sse-swap=news]').innerText.includes({text!r})")


def test_what_changes_is_pushed_to_the_page_and_a_later_dashboard_knows_it_too(
    fed, page, chromium, tmp_path, monkeypatch
):
    """Each wait ends before the item that the server sends without a change."""
    monkeypatch.setattr(browser, "PATIENCE_S", QUIET_S * 0.7)
    assert page.run("document.querySelectorAll('.strips rect.connected').length") == 2
    assert "The server started at" in page.text("[sse-swap=strips]")
    site = fed.nodes["site-2"]
    with fed.session() as session:
        job = session.submit(write_job(tmp_path / "livers", min_sites=1))
        page.until("document.querySelector('[sse-swap=newest]').innerText.includes('livers')")
        for _ in session.watch(job.id):
            pass
        until_said(page, "Job livers is completed.")
        site.stop()
        until_said(page, "Site site-2 is away.")
        site.start()
        until_said(page, "Site site-2 is connected.")
        session.enable("site-1", enabled=False)
        until_said(page, "Site site-1 is disabled.")
        page.until("document.querySelector('[sse-swap=problems]').innerText.includes('site-1 is disabled: an admin')")
        session.delete(job.id)
        page.until("!document.querySelector('[sse-swap=newest]').innerText.includes('livers')")
    with dashboard(fed) as (process, url), logged_in_tab(chromium, process, url) as other:
        shown = {other.text(f".strips li:nth-of-type({number}) a"): other.run(STRIP % number) for number in (1, 2)}
    assert shown["site-2"].endswith("connected away connected"), "this dashboard was not there when it happened"
    assert shown["site-1"].endswith("connected disabled")
    assert {it.split()[0] for it in shown.values()} == {"unknown"}


def test_who_is_revoked_is_told_so_at_once(fed, chromium, monkeypatch):
    monkeypatch.setattr(browser, "PATIENCE_S", QUIET_S * 0.7)
    with dashboard(fed, PEER) as (process, url), logged_in_tab(chromium, process, url) as page:
        assert page.run("document.querySelector('.banner')") is None
        with fed.session() as session:
            session.revoke_admin(PEER)
        page.until("document.querySelector('.banner')?.innerText.includes('was revoked')")
