"""The pages over a real REST API: what they show, offer, push and say of errors."""

import asyncio
import json
import re
import time
from contextlib import aclosing, suppress
from urllib.parse import quote

import httpx
import pytest

from convoy.admin import views
from convoy.dashboard import live, news, streams
from convoy.dashboard.federation_state import FederationState, Seen
from convoy.errors import Refused
from tests.admin.rest_api import job_folder
from tests.dashboard.conftest import logged_in, stream

EVIL = '"><script>alert(1)</script>\u202e\x1b[31m'


async def events(shown, path, count):
    """Return the first events of a stream, by name."""
    found = []
    async with aclosing(stream(shown, path)) as coming:
        async for event in coming:
            found.append(event)
            if len(found) == count:
                return found
    return found


async def told_until(shown, path, fits):
    """Return the newest event of each name, once they fit."""
    told = {}
    async with aclosing(stream(shown, path)) as coming:
        async for name, data in coming:
            told[name] = data
            if fits(told):
                return told
    raise AssertionError(f"the stream ended with {told}")


async def test_the_overview_shows_the_server_its_sites_and_its_jobs(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client() as client:
        await client.submit(job_folder(tmp_path, "tumours"))
        async with logged_in(client) as shown:
            page = (await shown.get("/")).text
    for word in ("clinics", "site-1", "site-2", "tumours", "running", "10 GiB", "warning 2", "root@a.org"):
        assert word in page
    assert page.index("warning 2") < page.index("warning 1"), "newest first"


def test_news_are_what_has_changed_and_not_more_than_a_person_can_hear():
    before = Seen(at=1.0, sites=tuple(many_sites(20)))
    away = tuple(site.model_copy(update={"connected": False, "enabled": True}) for site in before.sites)
    assert news.news(Seen(), before) == ""
    assert news.news(before, before) == ""
    said = news.news(before, Seen(at=2.0, sites=away))
    assert said.startswith("Site site-0000 is away. Site site-0001 is away.")
    assert said.endswith("more changes.")
    assert said.count("Site ") == news.MAX_SENTENCES


async def test_the_news_tell_of_jobs(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client() as client:
        federation_state = FederationState(client)
        await federation_state.look()
        before = federation_state.seen
        sent = await client.submit(job_folder(tmp_path, "tumours"))
        await federation_state.look()
        assert news.news(before, federation_state.seen) == "Job tumours was submitted."
        before = federation_state.seen
        await client.abort(sent.id)
        await federation_state.look()
        assert news.news(before, federation_state.seen) == "Job tumours is aborted."


async def test_the_overview_hears_of_changes_and_only_of_them(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client() as client, logged_in(client) as shown:
        heard = asyncio.create_task(events(shown, "/overview/live", 13))
        await client.submit(job_folder(tmp_path, "tumours"))
        told = await heard
    names = [name for name, _ in told]
    assert set(names) >= {"banner", "server", "strips", "newest", "problems", "pulse"}
    assert names.count("problems") == 1
    assert any("tumours" in data for name, data in told if name == "active")


async def test_a_stream_ends_with_the_dashboard(rest):
    async with rest.client() as client:
        async with logged_in(client) as shown:
            reading = asyncio.create_task(events(shown, "/sites/live", 1_000_000))
            await events(shown, "/sites/live", 3)
            assert not reading.done()
        with suppress(httpx.TransportError):  # broken off, where it did not end in order
            assert await reading


async def test_a_stream_ends_with_the_browser(shown, monkeypatch):
    monkeypatch.setattr(streams, "MAX_STREAMS", 1)
    await events(shown, "/sites/live", 2)
    while (answer := await shown.get("/sites")).status_code == 200:  # until the dashboard has seen that it is closed
        async with shown.http.stream("GET", "/sites/live") as again:
            if again.status_code == 200:
                break
    assert answer.status_code == 200


async def test_jobs_are_paged_and_searched(rest, tmp_path):
    async with rest.client() as client:
        for number in range(3):
            await client.submit(job_folder(tmp_path, f"lung-{number}", rounds=1))
        await client.submit(job_folder(tmp_path, "brain", rounds=1))
        async with logged_in(client) as shown:
            page = (await shown.get("/jobs")).text
            assert page.index("brain") < page.index("lung-2") < page.index("lung-0")
            found = (await shown.get("/jobs?begins=lung")).text
            assert "lung-1" in found
            assert "brain" not in found
            first = (await client.jobs(count=1))[0].id
            older = (await shown.get(f"/jobs?after={first}")).text
            assert "brain" not in older
            assert "lung-2" in older
            assert "Newest jobs" in older
            part = (await shown.get("/jobs?begins=brain", **{"hx-target": "rows"})).text
            assert "<html" not in part
            assert "brain" in part
            none = (await shown.get(f"/jobs?begins={'<b>' * 60}")).text
            assert "&lt;b&gt;" in none
            assert "<b>" not in none


def many_sites(count):
    return [
        views.SiteView(
            name=f"site-{number:04}",
            org="a" if number % 2 else "b",
            connected=number % 3 > 0,
            enabled=number % 7 > 0,
            version="0",
            seen_at=time.time() - 5,
            revoked_at=0,
            cpu=2,
            memory=1 << 30,
            gpu=0,
            jobs=[],
        )
        for number in range(count)
    ]


async def test_a_thousand_sites_are_paged_and_searched(rest):
    rest.fake.sites = lambda: many_sites(1000)
    async with rest.client() as client, logged_in(client) as shown:
        page = (await shown.get("/sites")).text
        assert "1,000 sites, page 1 of 20" in page
        assert len(re.findall(r"<tr>", page)) == 51
        last = (await shown.get("/sites?page=999")).text
        assert "page 20 of 20" in last
        assert "site-0999" in last
        found = (await shown.get("/sites?search=SITE-07&standing=disabled&page=1")).text
        assert int(re.search(r"(\d+) sites, page", found)[1]) == sum(number % 7 == 0 for number in range(700, 800))
        for odd in ("page=-1", "page=0", "page=1e9", "page=²", "standing=%00", "search=%22%3E%3Cscript%3E"):
            answer = await shown.get(f"/sites?{odd}")
            assert answer.status_code == 200
            assert "<script>" not in answer.text
        assert "976 more sites" in (await shown.get("/")).text


async def test_hostile_words_are_text_everywhere(rest):
    hostile = many_sites(1)[0].model_copy(
        update={"version": EVIL, "org": EVIL, "missing": {EVIL: EVIL}, "jobs": [], "enabled": True}
    )
    rest.fake.sites = lambda: [hostile]
    rest.fake._site = lambda _: hostile.model_copy(update={"name": "site-1"})
    rest.fake.problems = lambda _: [views.LogLine(site="server", text=EVIL)]
    status = rest.fake.status()
    rest.fake.status = lambda: status.model_copy(update={"problem": EVIL, "platform": EVIL, "python": EVIL})
    rest.fake.set_site = refusing
    async with rest.client() as client, logged_in(client) as shown:
        pages = [await shown.get(path) for path in ("/", "/sites", "/jobs", f"/jobs?begins={quote(EVIL)}")]
        pages += [await shown.get(f"/sites?search={quote(EVIL)}"), await shown.post("/sites/site-1/disable")]
        pages += [await shown.get(f"/{quote(EVIL)}"), await shown.post(f"/sites/site-1/{quote(EVIL, safe='')}")]
        texts = [answer.text for answer in pages]
        texts += [data for _, data in await events(shown, "/overview/live", 7)]
    for text in texts:
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
    assert "&lt;script&gt;alert" in texts[0]
    assert "&lt;script&gt;alert" in texts[5]


async def refusing(*_, **__):
    raise Refused(EVIL, why=EVIL, fix=EVIL)


async def test_what_a_role_may_not_do_is_not_offered_and_is_refused_if_asked(rest):
    seen = {}
    for name in ("root@a.org", "boss@a.org", "boss@b.org", "look@a.org"):
        async with rest.client(name) as client, logged_in(client) as shown:
            page = (await shown.get("/sites/site-1")).text
            answer = await shown.post("/sites/site-1/disable")
            seen[name] = ("Manage this site" in page, answer.status_code, answer.text)
            if answer.status_code == 303:
                await shown.post("/sites/site-1/enable")
    assert {name: found[:2] for name, found in seen.items()} == {
        "root@a.org": (True, 303),
        "boss@a.org": (True, 303),  # the site is of their organisation
        "boss@b.org": (False, 403),
        "look@a.org": (False, 403),
    }
    assert "look@a.org does not have the right to do this" in seen["look@a.org"][2]
    assert "ask a project_admin" in seen["look@a.org"][2]


@pytest.mark.parametrize(
    ("verb", "left"),
    [
        ("disable", ({"site-1"}, [], [])),
        ("revoke", (set(), ["site-1"], [])),
        ("stop", (set(), [], [("root@a.org", "site-1", False)])),
        ("restart", (set(), [], [("root@a.org", "site-1", True)])),
    ],
)
async def test_each_button_does_what_it_says(rest, shown, verb, left):
    assert f'action="/sites/site-1/{verb}"' in (await shown.get("/sites/site-1")).text
    answer = await shown.post(f"/sites/site-1/{verb}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/sites/site-1?done={verb}")
    assert (rest.fake.disabled, rest.fake.revoked, rest.fake.left) == left
    assert 'class="notice"' in (await shown.get(answer.headers["location"])).text


async def test_what_is_not_there_is_said_with_what_to_do(shown):
    answer = await shown.get("/nowhere")
    assert answer.status_code == 404
    assert "there is no such page" in answer.text
    answer = await shown.get("/sites/site-9")
    assert answer.status_code == 404
    assert "there is no site" in answer.text
    assert "Traceback" not in answer.text


async def test_our_own_bug_is_a_page_without_a_stack_trace(rest, shown, monkeypatch):
    def broken(*_):
        raise RuntimeError("secret details")

    monkeypatch.setattr("convoy.dashboard.overview._part", broken)
    answer = await shown.get("/")
    assert answer.status_code == 500
    assert "this is a bug in Convoy" in answer.text
    assert "secret details" not in answer.text


async def test_a_server_that_is_away_is_a_banner_and_the_last_that_was_seen(tmp_path, rest):
    async with rest.client() as client, logged_in(client) as shown:
        client._bearer, client.link.port = "", 9  # nothing listens there
        await client.link.close()  # the stream of changes breaks
        await told_until(shown, "/overview/live", lambda told: "does not answer" in told.get("banner", ""))
        page = (await shown.get("/")).text
        assert "What to do" in page
        assert "site-1" in page
        assert (await shown.get("/jobs")).status_code == 503


async def test_open_streams_are_limited(shown, monkeypatch):
    monkeypatch.setattr(streams, "MAX_STREAMS", 1)
    async with shown.http.stream("GET", "/overview/live") as first:
        assert first.status_code == 200
        second = await shown.get("/sites/live")
        assert second.status_code == 409
        assert "too many live pages" in second.text


async def test_the_chart_of_the_overview_is_numbers(shown):
    said = json.loads((await shown.get("/overview/series")).text)
    assert [it["label"] for it in said["series"]] == ["Sites connected", "Jobs running", "Jobs waiting"]
    assert all(len(it["values"]) == len(said["x"]["values"]) >= 1 for it in said["series"])
    assert said["x"]["to"] - said["x"]["from"] == 3600


def test_an_event_ends_where_we_say_so():
    event = live.Event("log", "a\r\ndata: b\n\nevent: forged\rc")
    assert event.encoded() == b"event: log\ndata: a\ndata: data: b\ndata: \ndata: event: forged\ndata: c\n\n"
