"""Nobody but the person's own browser drives the dashboard: an attack for each rule of the guard."""

import re

import httpx
import pytest

from convoy.dashboard.guard import HEADERS, POLICY, Session
from tests.dashboard.conftest import logged_in


async def fresh(shown, path, **headers):
    """Ask from a browser without a cookie."""
    async with httpx.AsyncClient(base_url=shown.origin, trust_env=False) as http:
        return await http.get(path, headers=headers)


async def test_the_address_works_once_and_leads_to_one_without_the_token(rest):
    async with rest.client() as client, logged_in(client) as shown:
        again = await fresh(shown, f"/?token={shown.session.token}")
        assert again.status_code == 403
        assert "set-cookie" not in again.headers
        assert "works once" in again.text


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(rest):
    async with rest.client() as client, logged_in(client) as shown:
        name = f"convoy-{shown.session.port}"
        assert shown.http.cookies.get(name) == shown.session.cookie
        session = Session(shown.session.port)
        assert session.cookie != shown.session.cookie
    async with rest.client() as client:
        from convoy.dashboard import serve

        async with serve.serving(client) as session, httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(session.url)
            assert answer.headers["location"] == "/"
            said = answer.headers["set-cookie"].lower()
            assert "httponly" in said
            assert "samesite=strict" in said
            assert "domain" not in said


async def test_a_wrong_token_does_not_use_up_the_right_one(rest):
    from convoy.dashboard import serve

    async with rest.client() as client, serve.serving(client) as session, httpx.AsyncClient(trust_env=False) as http:
        base = f"http://127.0.0.1:{session.port}"
        for wrong in ("x", "ü", session.token[:-1], session.token + "a"):
            assert (await http.get(f"{base}/", params={"token": wrong})).status_code == 403
        assert (await http.get(session.url)).status_code == 303


async def test_a_link_that_another_site_opened_still_logs_in_though_it_may_send_no_strict_cookie(rest):
    from convoy.dashboard import serve

    async with rest.client() as client, serve.serving(client) as session, httpx.AsyncClient(trust_env=False) as http:
        told = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        answer = await http.get(session.url, headers=told)
        assert answer.status_code == 200
        assert 'content="0;url=/"' in answer.text
        assert session.token not in answer.text
        assert "set-cookie" in answer.headers


@pytest.mark.parametrize("path", ["/", "/jobs", "/sites", "/overview/live", "/overview/series", "/nowhere"])
async def test_without_the_cookie_nothing_is_shown(shown, path):
    answer = await fresh(shown, path)
    assert answer.status_code == 403
    assert "clinics" not in answer.text


@pytest.mark.parametrize(
    "cookie", ["convoy-{port}=", "convoy-{port}=wrong", "convoy={cookie}", '=;;;"', "a=" + "b" * 9000]
)
async def test_a_cookie_that_is_wrong_opens_nothing(shown, cookie):
    said = cookie.format(port=shown.session.port, cookie=shown.session.cookie)
    assert (await fresh(shown, "/", cookie=said)).status_code == 403


@pytest.mark.parametrize(
    "others",
    ['a={"x": 1}; ', "flag; ", "a=b c; ", "=; ;; ", "convoy-{port}=bad; ", "a=" + "b" * 20_000 + "; ", 'x={"; '],
    ids=lambda it: it[:12],
)
async def test_cookies_of_other_programs_on_this_machine_lock_nobody_out(shown, others):
    port = shown.session.port
    said = f"{others.format(port=port) if 'port' in others else others}convoy-{port}={shown.session.cookie}"
    assert (await fresh(shown, "/", cookie=said)).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:{other}", "[::1]:{port}", ""]
)
async def test_another_name_for_this_address_is_refused(shown, host):
    """DNS rebinding: a site that is the attacker's makes its own name lead to 127.0.0.1."""
    said = host.format(port=shown.session.port, other=shown.session.port + 1)
    answer = await shown.get("/", host=said)
    assert answer.status_code == 421
    assert "clinics" not in answer.text


async def test_localhost_is_the_same_address(shown):
    host = f"localhost:{shown.session.port}"
    assert (await shown.get("/", host=host)).status_code == 200
    told = await shown.post("/sites/site-1/disable", host=host, origin=f"http://{host}")
    assert told.status_code == 303
    crossed = await shown.post("/sites/site-1/enable", host=host)  # its origin is 127.0.0.1
    assert crossed.status_code == 403


FOREIGN = (
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "https://127.0.0.1:{port}"},
    {"origin": "http://127.0.0.1:{other}"},
    {"origin": "http://127.0.0.1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},  # another port of 127.0.0.1
    {"sec-fetch-site": "none"},
)


@pytest.mark.parametrize("told", FOREIGN, ids=str)
async def test_another_site_changes_nothing(rest, shown, told):
    """It even has the cookie and the CSRF value here: the browser's own word about who asks is enough to refuse."""
    port = shown.session.port
    said = {name: value.format(port=port, other=port + 1) for name, value in told.items()}
    answer = await shown.post("/sites/site-1/disable", **said)
    assert answer.status_code == 403
    assert rest.fake.disabled == set()


async def test_a_request_that_changes_something_must_say_where_it_is_from(rest, shown):
    answer = await shown.http.post("/sites/site-1/disable", data={"csrf": shown.session.csrf})
    assert answer.status_code == 403
    assert rest.fake.disabled == set()


@pytest.mark.parametrize("csrf", ["", "wrong", "ü"])
async def test_a_form_without_the_value_of_our_pages_changes_nothing(rest, shown, csrf):
    answer = await shown.post("/sites/site-1/disable", {"csrf": csrf})
    assert answer.status_code == 403
    assert "CSRF" in answer.text
    assert rest.fake.disabled == set()


async def test_a_form_or_a_script_of_our_pages_does(rest, shown):
    assert (await shown.post("/sites/site-1/disable")).status_code == 303
    assert rest.fake.disabled == {"site-1"}
    told = {"x-convoy-csrf": shown.session.csrf}
    assert (await shown.post("/sites/site-1/enable", {"csrf": ""}, **told)).status_code == 303
    assert rest.fake.disabled == set()


async def test_looking_changes_nothing(rest, shown):
    assert (await shown.get("/sites/site-1/disable")).status_code == 405
    assert (await shown.http.request("PUT", "/sites/site-1/disable")).status_code == 405
    assert rest.fake.disabled == set()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_can_neither_embed_nor_fetch_a_page(shown, site):
    assert (await shown.get("/", **{"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})).status_code == 403
    framed = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert (await shown.get("/", **framed)).status_code == 403
    loaded = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "document"}
    assert (await shown.get("/", **loaded)).status_code == 403
    followed = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert (await shown.get("/", **followed)).status_code == 200  # a person who follows a link


async def test_every_answer_has_the_headers_that_bind_the_browser(shown):
    found = [
        await shown.get("/"),
        await shown.get("/nowhere"),
        await shown.get("/assets/convoy.css"),
        await shown.get("/", host="evil.example"),
        await shown.post("/sites/none/disable"),
        await shown.post("/sites/none/disable", origin="null"),
    ]
    for answer in found:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    assert "unsafe" not in POLICY
    assert [answer.headers["cache-control"] for answer in found] == ["no-store"] * 2 + ["no-cache"] + ["no-store"] * 3


async def test_no_page_has_a_script_or_a_style_in_it(shown):
    for path in ("/", "/jobs", "/sites", "/sites/site-1", "/nowhere"):
        page = (await shown.get(path)).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", page), path
        assert re.findall(r"https?://[^\s\"'<]+", page) == [], path


async def test_a_form_without_an_end_is_refused_before_it_is_read(shown):
    answer = await shown.post("/sites/site-1/disable", {"much": "x" * (70 << 10)})
    assert answer.status_code == 400
    assert "65,536 bytes" in answer.text


async def test_no_file_outside_of_the_assets_is_served(shown):
    for path in ("/assets/../guard.py", "/assets/%2e%2e/guard.py", "/assets/..%2fguard.py", "/assets/vendor"):
        answer = await shown.get(path)
        assert answer.status_code == 404, path


async def test_two_dashboards_on_one_machine_do_not_share_a_session(rest):
    async with rest.client() as client, logged_in(client) as one, logged_in(client) as other:
        taken = "; ".join(f"{name}={value}" for name, value in one.http.cookies.items())
        assert (await fresh(other, "/", cookie=taken)).status_code == 403


def test_a_browser_leaves_out_the_port_80():
    assert Session(80).hosts == ("127.0.0.1", "localhost")
    assert Session(8080).hosts == ("127.0.0.1:8080", "localhost:8080")
