"""People, rights, invitations, the audit trail and its verification, over a real REST API."""

import dataclasses
import re
import shlex
import time
from urllib.parse import quote, urlencode

import pytest

from convoy.admin import views
from convoy.control import rights
from convoy.dashboard import people
from convoy.dashboard.verification import Verification
from convoy.spec.kit import read_kit
from convoy.trust import audit, enrolment, keys
from tests.admin import rest_api
from tests.dashboard.conftest import logged_in
from tests.dashboard.test_pages import EVIL, told_until


def test_each_right_is_said_in_words():
    assert set(people.WORDS) == set(rights.RIGHTS)
    said = dict(people.table())
    admin, org, lead, member = range(4)
    assert said[people.WORDS["abort"]][lead] == "their own jobs"
    assert said[people.WORDS["operate_site"]][org] == "their organisation's sites"
    assert said[people.WORDS["submit"]][admin] == "yes"
    assert said[people.WORDS["download"]][member] == ""


async def test_everybody_is_shown_with_roles_and_rights_and_ones_own_login(shown, rest):
    rest.fake.revoked.append("look@a.org")
    page = (await shown.get("/people")).text
    for name, (_org, role) in rest_api.ROLES.items():
        assert name in page
        assert role in page
    assert "federation.json number 1" in page
    assert "(you)" in page
    assert page.count("those issued up to") == 1
    found = (await shown.get("/people?search=ORG_admin")).text
    assert "boss@b.org" in found
    assert "lead@b.org" not in found
    assert "Nobody fits" in (await shown.get(f"/people?search={quote(EVIL)}")).text


async def test_a_person_is_revoked_after_a_question(shown, rest):
    asked = (await shown.get("/people/look@a.org/revoke")).text
    assert "This is you" not in asked
    assert "This is you" in (await shown.get("/people/root@a.org/revoke")).text
    answer = await shown.post("/people/look@a.org/revoke")
    assert answer.status_code == 303
    assert rest.fake.revoked == ["look@a.org"]
    assert "are revoked" in (await shown.get(answer.headers["location"])).text
    assert (await shown.get("/people/site-1/revoke")).status_code == 404


async def test_who_may_not_revoke_or_invite_is_not_offered_it(rest):
    async with rest.client("boss@a.org") as client, logged_in(client) as shown:
        page = (await shown.get("/people")).text
        assert "Revoke…" not in page
        assert "Invite a person" not in page
        assert "Invite a site" not in (await shown.get("/sites")).text
        assert (await shown.post("/people/look@a.org/revoke")).status_code == 403
        assert (await shown.post("/invite", {"kind": "site", "name": "site-1"})).status_code == 403
        assert (await shown.get("/audit")).status_code == 200
    async with rest.client("look@a.org") as client, logged_in(client) as shown:
        assert 'href="/audit"' not in (await shown.get("/")).text
        assert (await shown.get("/audit")).status_code == 403
        assert (await shown.get("/audit/save")).status_code == 403


def command_in(page):
    found = re.search(r'<code id="command">([^<]*)</code>', page)
    return shlex.split(found[1].replace("&#39;", "'")) if found else None


async def test_an_invitation_is_shown_once_and_works(shown, rest, tmp_path):
    rest.registry.ledger.write([])
    answer = await shown.post("/invite", {"kind": "site", "name": "site-1"})
    assert answer.status_code == 200
    command = command_in(answer.text)
    assert command[:5] == ["convoy", "kit", "enrol", "KIT", "--token"]
    again = (await shown.get("/invite?kind=site")).text
    assert command[-1] not in again
    assert command_in(again) is None
    assert "site-1</td><td>" in again
    assert "open" in again
    key = keys.make()
    ask = views.EnrolAsk(kind="site", name="site-1", token=command[-1], request=enrolment.request(key).decode())
    given = await rest.registry.enrol(ask)
    assert given.certificate.startswith("-----BEGIN CERTIFICATE-----")
    assert "used" in (await shown.get("/invite?kind=site")).text


async def test_who_is_not_listed_yet_is_invited_by_a_command(shown):
    answer = await shown.post("/invite", {"kind": "site", "name": "site-9", "org": "St. Mary & Sons"})
    assert command_in(answer.text.replace("&amp;", "&")) == [
        *("convoy", "site", "invite", "site-9", "--org"),
        "St. Mary & Sons",
    ]
    answer = await shown.post("/invite", {"kind": "admin", "name": "new@a.org"})
    assert command_in(answer.text) == ["convoy", "kit", "invite", "new@a.org"]
    for name in (EVIL, "$(id)", "server", ""):
        answer = await shown.post("/invite", {"kind": "site", "name": name})
        assert answer.status_code == 400
        assert "<script>alert" not in answer.text
    answer = await shown.post("/invite", {"kind": "site", "name": "look@a.org"})
    assert "is a admin" in answer.text or "is an admin" in answer.text


async def test_a_site_has_its_certificate_and_its_jobs(rest, tmp_path):
    rest.fake.may_go.clear()
    known = rest.fake._site

    def site(name):
        return known(name).model_copy(update={"certificate_ends_at": time.time() + 500, "renews_at": time.time() + 90})

    rest.fake._site = site
    async with rest.client() as client:
        job = await client.submit(rest_api.job_folder(tmp_path, "tumours"))
        async with logged_in(client) as shown:
            page = (await shown.get("/sites/site-1")).text
            assert f'href="/jobs/{job.id}"' in page
            assert "renewed at" in page
            assert "/invite?kind=site&amp;name=site-1" in page


# the audit trail


@pytest.fixture
def server(prod):
    """The server's key and certificate, with which it signs."""
    kit = read_kit(prod / "server")
    return kit.key_file.read_bytes(), kit.certificate.decode()


def grown(entries, server, count=3, *, sign=True, **words):
    """Add so many records to a trail, and a checkpoint of the last one."""
    last = next((it for it in reversed(entries) if isinstance(it, audit.Record)), None)
    said = {"actor": "admin:ada@a.org", "action": "submit", "object": "job:" + "a" * 32, "outcome": "done"} | words
    now = int(time.time() * 1000)
    for _ in range(count):
        entries.append(last := audit.following(last, project="clinics", at=now, **said))
    if sign:
        key, certificate = server
        entries.append(audit.sign(last, project="clinics", key=keys.from_pem(key), certificate=certificate, at=now))
    return entries


async def test_the_trail_is_shown_newest_first_searched_and_paged(rest, shown, server):
    grown(rest.fake.entries, server, 60)
    grown(rest.fake.entries, server, 1, action="revoke", object="site:site-1", outcome=f"refused: {EVIL}")
    page = (await shown.get("/audit")).text
    numbers = [int(it) for it in re.findall(r'<td class="num faint">(\d+)</td>', page)]
    assert numbers == list(range(60, 10, -1))
    assert 'href="/sites/site-1"' in page
    assert f'href="/jobs/{"a" * 32}"' in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    older = re.search(r'href="(/audit\?before=\d+)" rel="next"', page)[1]
    part = (await shown.get(older, **{"hx-target": "rows"})).text
    assert "<html" not in part
    assert re.findall(r'<td class="num faint">(\d+)</td>', part)[0] == "10"
    for said, count in (
        ({"action": "revoke"}, 1),
        ({"outcome": "refused"}, 1),
        ({"object": "SITE-1"}, 1),
        ({"actor": "nobody"}, 0),
        ({"text": "ada@"}, 50),
        ({"since": "2001-01-01T00:00"}, 50),
        ({"until": "2001-01-01T00:00"}, 0),
        ({"since": EVIL, "before": EVIL}, 50),
    ):
        found = (await shown.get(f"/audit?{urlencode(said)}")).text
        assert len(re.findall(r'<td class="num faint">', found)) == count, said


async def test_times_that_no_calendar_has_are_shown_too(rest, shown):
    last = audit.following(None, project="clinics", at=audit.MAX_NUMBER, actor="a", action="b", object="", outcome="")
    rest.fake.entries.append(last)
    assert (await shown.get("/audit")).status_code == 200


async def test_the_page_verifies_the_trail_while_it_is_open(rest, server):
    grown(rest.fake.entries, server)
    async with rest.client() as client, logged_in(client) as shown:
        assert "not checked yet" in (await shown.get("/audit")).text
        whole = "Records 0 to 2 are complete and in order"
        await told_until(shown, "/audit/live", lambda told: whole in told.get("verification", ""))
        assert "intact" in (await shown.get("/audit")).text
        changed = dataclasses.replace(rest.fake.entries[1], outcome="nothing happened")
        rest.fake.entries[1] = changed
        await shown.post("/audit/verify")
        wrong = "record 1 was changed"
        await told_until(shown, "/audit/live", lambda told: wrong in told.get("verification", ""))


async def checked(client, state):
    while await state.advance():
        assert state.busy
    assert not state.busy
    return state


async def test_a_long_trail_is_verified_in_steps(rest, server, monkeypatch):
    monkeypatch.setattr("convoy.dashboard.verification.MOST", 2)
    entries = grown(rest.fake.entries, server)
    grown(entries, server, 6)
    async with rest.client() as client:
        state = Verification(client)
        assert await state.advance()
        assert (state.verified, state.report) == (2, None)
        assert (await checked(client, state)).wrong is None
        assert state.verified == sum(isinstance(it, audit.Record) for it in entries)


async def test_a_verification_goes_on_where_it_was(rest, server):
    entries = grown(rest.fake.entries, server)
    async with rest.client() as client:
        state = await checked(client, Verification(client))
        assert (state.verified, state.unsigned, state.report.checkpoints) == (3, 0, 1)
        assert await checked(client, state) is state  # the last record and its checkpoint come once more
        assert (state.report.checkpoints, state.wrong) == (1, None)
        grown(entries, server, 2, sign=False)
        await checked(client, state)
        assert (state.verified, state.unsigned) == (5, 2)
        last = entries[-1]
        key, certificate = server
        entries.append(audit.sign(last, project="clinics", key=keys.from_pem(key), certificate=certificate, at=last.at))
        await checked(client, state)
        assert (state.verified, state.unsigned, state.report.checkpoints) == (5, 0, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entries: entries.clear(), "is missing"),
        (lambda entries: entries.__delitem__(slice(2, None)), "is missing"),
        (lambda entries: entries.__setitem__(2, dataclasses.replace(entries[2], actor="nobody")), "was changed since"),
    ],
)
async def test_what_was_verified_must_stay(rest, server, change, said):
    entries = grown(rest.fake.entries, server)
    async with rest.client() as client:
        state = await checked(client, Verification(client))
        change(entries)
        await checked(client, state)
        assert said in str(state.wrong)
        entries[:] = grown([], server, 5)
        await checked(client, state)
        assert said in str(state.wrong)  # it stays until somebody begins again


async def test_a_trail_that_the_server_wrote_anew_is_found_when_the_check_begins_again(rest, server):
    rest.fake.entries[:] = grown([], server)
    async with rest.client() as client:
        state = await checked(client, Verification(client))
        rest.fake.entries[:] = grown([], server, 5, outcome="another history")
        await state.again()
        await checked(client, state)
        assert "rewritten" in str(state.wrong)


async def test_a_server_that_is_away_is_no_fault_of_the_trail(rest, server):
    grown(rest.fake.entries, server)
    async with rest.client() as client:
        state = Verification(client)
        port, client._bearer, client.link.port = client.link.port, "", 9
        await checked(client, state)
        assert state.fault is not None
        assert state.wrong is None
        client.link.port = port
        await checked(client, state)
        assert (state.fault, state.verified) == (None, 3)


async def test_the_trail_is_saved_as_the_command_saves_it(rest, shown, server):
    entries = grown(rest.fake.entries, server)
    answer = await shown.get("/audit/save")
    assert answer.headers["content-disposition"] == 'attachment; filename="audit-clinics.jsonl"'
    assert answer.text == "".join(f"{audit.line(it)}\n" for it in entries)
