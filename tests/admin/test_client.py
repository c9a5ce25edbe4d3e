"""The client at a REST API over real TLS."""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from contextlib import aclosing

import pytest

from convoy.admin import Session, client, link, pages, serve
from convoy.admin.changes import MAX_CHANGES, ChangeView
from convoy.errors import BadInput, NotAllowed, NotFound, Refused, RemoteFault, Unreachable
from convoy.trust import login
from convoy.trust.authority import Authority
from convoy.wire import door as doors
from tests.admin import rest_api as api


async def finished(convoy, job):
    return [progress async for progress in convoy.watch(job)]


async def test_a_submitted_folder_runs_and_its_results_come_back_whole(rest, tmp_path):
    async with rest.client("lead@a.org") as convoy:
        job = await convoy.submit(api.job_folder(tmp_path))
        seen = await finished(convoy, job.id)
        assert seen[-1].job.state == "completed"
        assert [made.round for progress in seen for made in progress.rounds] == [1, 2, 3]
        detail = await convoy.job(job.id)
        assert detail.rounds[1].left_out[0].site == "site-2"
        files = await convoy.fetch(job.id, tmp_path / "out")
        assert [file.relative_to(tmp_path / "out").as_posix() for file in files] == detail.results
        assert files[1].read_bytes() == rest.fake.kept[job.id].results["model.safetensors"]


async def test_sending_the_same_bundle_again_is_the_same_job(rest, tmp_path):
    async with rest.client() as convoy:
        bundle = await convoy.pack(api.job_folder(tmp_path))
        assert await convoy.send(bundle) == await convoy.send(bundle)
        assert len(await convoy.jobs()) == 1


async def test_a_bundle_with_one_byte_changed_is_refused_with_the_reason(rest, tmp_path):
    async with rest.client() as convoy:
        bundle = bytearray(await convoy.pack(api.job_folder(tmp_path)))
        bundle[-1] ^= 1
        with pytest.raises(RemoteFault, match="damaged"):
            await convoy.send(bytes(bundle))
        assert await convoy.jobs() == []


async def test_a_job_is_found_by_id_prefix_or_name_and_an_ambiguous_name_is_named(rest, tmp_path):
    async with rest.client() as convoy:
        first = await convoy.submit(api.job_folder(tmp_path / "1"))
        assert (
            await convoy.find("tumours") == await convoy.find(first.id[:6]) == await convoy.find(first.id) == first.id
        )
        rest.fake.may_go.clear()
        await convoy.submit(api.job_folder(tmp_path / "2"))
        await convoy.submit(api.job_folder(tmp_path / "3"))
        with pytest.raises(BadInput, match="2 jobs are called 'tumours'"):
            await convoy.find("tumours")
        more = [(await convoy.submit(api.job_folder(tmp_path / str(n)))).id[0] for n in range(4, 21)]
        ((alike, _),) = Counter(more).most_common(1)  # of 17 first digits two are the same
        with pytest.raises(BadInput, match=f"have ids that begin with '{alike}'"):
            await convoy.find(alike)
        with pytest.raises(NotFound, match="no job 'nothing'"):
            await convoy.find("nothing")


async def test_logs_are_followed_to_the_end_and_told_apart_by_site(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client() as convoy:
        job = await convoy.submit(api.job_folder(tmp_path))
        async with aclosing(convoy.logs(job.id, follow=True)) as lines:
            rest.fake.may_go.set()
            assert [line.site async for line in lines] == ["site-1", "site-2"] * 3
        mine = [line.text async for line in convoy.logs(job.id, site="site-2")]
        assert mine == ["round 1: loss 1.000", "round 2: loss 0.500", "round 3: loss 0.333"]
        with pytest.raises(NotFound, match="no site 'mars'"):
            await anext(convoy.logs(job.id, site="mars"))


async def test_live_metrics_are_followed_to_the_end_and_each_comes_once_also_after_a_break(tmp_path, prod):
    rest = api.make(tmp_path, prod)
    rest.fake.may_go.clear()
    async with rest.client() as convoy:
        async with rest.serving():
            job = await convoy.submit(api.job_folder(tmp_path, rounds=4))
            every, one = convoy.points(job.id, follow=True), convoy.points(job.id, site="site-2", key="l*", follow=True)
            rest.fake.may_go.set()
            told, mine = [await anext(every)], [await anext(one)]
        rest.logins._bearers.clear()
        async with rest.serving():
            told += [point async for point in every]
            mine += [point async for point in one]
    assert sorted((it.site, it.number) for it in told) == [(site, n) for site in ("site-1", "site-2") for n in range(4)]
    assert [(it.site, it.number, list(it.values)) for it in mine] == [("site-2", n, ["loss"]) for n in range(4)]


async def test_live_metrics_are_read_in_pages(rest, tmp_path):
    async with rest.client() as convoy:
        job = (await convoy.submit(api.job_folder(tmp_path, rounds=5))).id
        assert [item.job.state async for item in convoy.watch(job)][-1] == "completed"

        async def page(query):
            async with convoy._open("GET", f"/jobs/{job}/points?{query}") as chunks:
                return [json.loads(line)["number"] for line in b"".join([it async for it in chunks]).splitlines()]

        assert await page("site=site-1&limit=2") == [0, 1]
        assert await page("site=site-1&limit=2&after=1") == [2, 3]
        assert await page("site=site-1&after=3") == [4]
        with pytest.raises(BadInput, match="limit is 'x'"):
            await page("limit=x")


async def test_abort_ends_a_job_and_a_second_abort_is_refused(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client() as convoy:
        job = await convoy.submit(api.job_folder(tmp_path))
        assert (await convoy.abort(job.id)).cause == "aborted by root@a.org"
        with pytest.raises(Refused, match="ended already"):
            await convoy.abort(job.id)
        await convoy.delete(job.id)
        with pytest.raises(NotFound):
            await convoy.job(job.id)


async def test_a_clone_is_a_new_job_signed_by_who_cloned_it(rest, tmp_path):
    async with rest.client("lead@a.org") as lead, rest.client("root@a.org") as root:
        job = await lead.submit(api.job_folder(tmp_path))
        sent = await root.clone(job.id)
        assert sent.id != job.id
        assert (await root.job(sent.id)).job.submitter == "root@a.org"


async def test_a_job_that_fails_tells_its_story(rest, tmp_path):
    async with rest.client() as convoy:
        job = await convoy.submit(api.job_folder(tmp_path, config="{fail_at: 2}"))
        last = (await finished(convoy, job.id))[-1]
        assert last.job.state == "failed"
        assert "at site-2" in last.traceback
        with pytest.raises(NotFound, match="has no results"):
            await convoy.fetch(job.id, tmp_path / "out")


async def test_a_watch_goes_on_over_a_server_that_restarts_and_tells_each_round_once(tmp_path, prod):
    rest = api.make(tmp_path, prod)
    rest.fake.may_go.clear()
    async with rest.client(patience_s=30) as convoy:
        async with rest.serving():
            job = await convoy.submit(api.job_folder(tmp_path, rounds=4))
            watch = convoy.watch(job.id)
            logs = convoy.logs(job.id, follow=True)
            assert (await anext(watch)).job.round == 0
            rest.fake.may_go.set()
            told = [made.round for made in (await anext(watch)).rounds]
            lines = [await anext(logs)]
        rest.logins._bearers.clear()
        async with rest.serving():
            told += [made.round async for progress in watch for made in progress.rounds]
            lines += [line async for line in logs]
    assert told == [1, 2, 3, 4]
    assert len(lines) == 8


async def test_patience_runs_out_on_a_server_that_stays_away(tmp_path, prod):
    rest = api.make(tmp_path, prod)
    rest.fake.may_go.clear()
    async with rest.client(patience_s=0.3) as convoy:
        async with rest.serving():
            job = await convoy.submit(api.job_folder(tmp_path))
            watch = convoy.watch(job.id)
            await anext(watch)
        with pytest.raises(Unreachable, match="no server answers at localhost"):
            await anext(watch)
        rest.fake.running[job.id].cancel()


async def test_a_fetch_goes_on_where_it_broke_off(rest, tmp_path):
    async with rest.client() as convoy:
        job = await convoy.submit(api.job_folder(tmp_path))
        await finished(convoy, job.id)
        whole = rest.fake.kept[job.id].results["model.safetensors"]
        out = tmp_path / "out"
        out.mkdir()
        (out / ".model.safetensors.part").write_bytes(whole[:300_001])
        await convoy.fetch(job.id, out)
        assert (out / "model.safetensors").read_bytes() == whole
        assert sorted(path.name for path in out.iterdir()) == [".convoy-job", "logs", "model.safetensors"]


async def test_results_of_two_jobs_do_not_mix_in_a_folder(rest, tmp_path):
    async with rest.client() as convoy:
        for number in (1, 2):
            job = await convoy.submit(api.job_folder(tmp_path / str(number)))
            await finished(convoy, job.id)
            if number == 1:
                await convoy.fetch(job.id, tmp_path / "out")
        with pytest.raises(BadInput, match="another job"):
            await convoy.fetch(job.id, tmp_path / "out")


async def test_a_file_that_lies_where_a_result_would_go_never_passes_for_one(rest, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_text("mine")
    async with rest.client() as convoy:
        job = await convoy.submit(api.job_folder(tmp_path))
        await finished(convoy, job.id)
        with pytest.raises(BadInput, match=r"model\.safetensors is there already, and nothing says"):
            await convoy.fetch(job.id, out)
        assert [(path.name, path.read_text()) for path in out.iterdir()] == [("model.safetensors", "mine")]


async def test_a_bearer_that_is_over_is_renewed_without_a_word(rest):
    async with rest.client() as convoy:
        assert (await convoy.me()).role == "project_admin"
        rest.logins._bearers.clear()
        assert (await convoy.me()).name == "root@a.org"


async def test_many_calls_of_one_client_share_one_login(rest):
    async with rest.client() as convoy:
        await asyncio.gather(*(convoy.status() for _ in range(5)))
        assert len(rest.logins._bearers) == 1


async def test_answers_come_without_waiting_for_acknowledgements(rest):
    async with rest.client() as convoy:
        took = []
        for _ in range(100):  # on a slow machine, too, some are quick
            began = time.perf_counter()
            await convoy.me()
            took.append(time.perf_counter() - began)
    assert min(took) < 0.030  # Nagle's algorithm makes each 0.040 and more


async def test_a_server_of_another_project_is_named(rest, tmp_path):
    other = api.make(tmp_path / "other")
    async with client.connect(other.kit("root@a.org"), server=f"localhost:{rest.port}") as convoy:
        with pytest.raises(NotAllowed, match="is not the server of your kit"):
            await convoy.status()


async def test_a_site_does_not_pass_as_the_server(tmp_path, prod):
    rest = api.make(tmp_path, prod)
    site = rest.kit("site-1")
    config = serve.config(
        api.build(rest.fake, rest.registry, rest.logins, version="0"),
        host="127.0.0.1",
        port=rest.port,
        cert_file=site.cert_file,
        key_file=site.key_file,
    )
    async with serve.serving(config), rest.client() as convoy:
        with pytest.raises(NotAllowed, match="is not the server of your kit"):
            await convoy.status()


@pytest.mark.parametrize(("seconds", "said"), [(-50, "expired"), (3000, "not yet valid")])
async def test_a_certificate_out_of_its_time_points_at_the_clocks(tmp_path, prod, seconds, said):
    rest, root, issued = api.make(tmp_path, prod), Authority.load(prod.parent / "state"), time.time() + seconds
    pair = root.issue("server", "server", now=issued, days=10 / 86400, hosts=["localhost"])
    for name, pem in zip(("key", "crt"), pair, strict=True):
        (tmp_path / name).write_bytes(pem)
    served = api.build(rest.fake, rest.registry, rest.logins, version="0")
    files = {"cert_file": tmp_path / "crt", "key_file": tmp_path / "key"}
    async with serve.serving(serve.config(served, host="127.0.0.1", port=rest.port, **files)), rest.client() as convoy:
        with pytest.raises(NotAllowed, match="is not valid now") as refused:
            await convoy.status()
    assert said in refused.value.why
    assert "clock" in refused.value.fix


async def test_nobody_there_is_told_with_what_to_do(tmp_path, prod):
    rest = api.make(tmp_path, prod)
    async with rest.client() as convoy:
        with pytest.raises(Unreachable, match="no server answers") as problem:
            await convoy.status()
        assert "convoy up" in problem.value.fix


async def test_only_an_admins_kit_connects(tmp_path, prod):
    rest = api.make(tmp_path, prod)
    with pytest.raises(NotAllowed, match="kit of a site"):
        async with client.connect(rest.kit("site-1")):
            pass


async def test_a_nonce_is_good_once(rest):
    kit = rest.kit("root@a.org")
    line = link.Link("localhost", rest.port, rest.logins.membership.root_pem)
    said = json.loads(await line.ask("GET", "/api/v1/login"))
    answer = login.answer(kit.key_file.read_bytes(), kit.certificate, "clinics", said["nonce"])
    content = json.dumps(answer | {"nonce": said["nonce"]}).encode()
    assert json.loads(await line.ask("POST", "/api/v1/login", content=content))["person"]["name"] == "root@a.org"
    with pytest.raises(NotAllowed, match="too late or twice"):
        await line.ask("POST", "/api/v1/login", content=content)
    await line.close()


async def test_a_request_beyond_its_limit_is_refused_before_it_is_read(rest):
    line = link.Link("localhost", rest.port, rest.logins.membership.root_pem)
    with pytest.raises(BadInput, match="larger than 65536 bytes"):
        await line.ask("POST", "/api/v1/login", content=b"x" * 70_000)
    await line.close()


async def test_the_blocking_session_does_the_same(rest, tmp_path):
    def work():
        with Session(rest.kit("lead@a.org"), server=f"localhost:{rest.port}") as convoy:
            job = convoy.submit(api.job_folder(tmp_path))
            states = [progress.job.state for progress in convoy.watch(job.id)]
            return states[-1], len(list(convoy.logs(job.id))), convoy.fetch(job.id, tmp_path / "out")

    state, lines, files = await asyncio.to_thread(work)
    assert (state, lines, len(files)) == ("completed", 6, 2)
    assert threading.active_count() < 20


@pytest.mark.parametrize(
    ("server", "wanted"),
    [
        ("", ("localhost", None)),
        ("fl.org", ("fl.org", None)),
        ("fl.org:99", ("fl.org", 99)),
        ("[::1]:99", ("::1", 99)),
        ("[::1]", ("::1", None)),
        ("::1", ("::1", None)),
    ],
)
def test_an_address_may_leave_out_the_port(tmp_path, prod, server, wanted):
    rest = api.make(tmp_path, prod)
    host, port = wanted
    assert link.address(server, rest.kit("root@a.org")) == (host, port or rest.port)


@pytest.mark.parametrize("server", ["fl.org:x", "fl.org:0", "fl.org:70000", ":80"])
def test_a_wrong_address_is_refused(tmp_path, prod, server):
    with pytest.raises(BadInput, match="is not an address"):
        link.address(server, api.make(tmp_path, prod).kit("root@a.org"))


def test_the_port_for_sites_is_told_from_that_for_people(tmp_path, prod):
    kit = api.make(tmp_path, prod).kit("root@a.org")
    with pytest.raises(BadInput, match="is the server's port for sites") as refused:
        link.address(f"localhost:{kit.fed_port}", kit)
    assert refused.value.why == f"people use {kit.admin_port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_server_on_every_address_answers_on_both_families(tmp_path, prod, host):
    with doors.opened("::", 0) as probe:
        if probe.family != socket.AF_INET6 and host == "[::1]":
            pytest.skip("this machine has no IPv6")
    rest = api.make(tmp_path, prod)
    server = rest.kit("server")
    served = api.build(rest.fake, rest.registry, rest.logins, version="0")
    files = {"cert_file": server.cert_file, "key_file": server.key_file}
    async with (
        serve.serving(serve.config(served, host="::", port=rest.port, **files)),
        client.connect(rest.kit("root@a.org"), server=f"{host}:{rest.port}") as convoy,
    ):
        assert (await convoy.me()).name == "root@a.org"
        assert convoy.link.name == f"{host}:{rest.port}"


async def test_rounds_and_jobs_come_in_pages_and_a_round_by_itself(rest, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PAGE", 4)
    async with rest.client("lead@a.org") as convoy:
        jobs = [(await convoy.submit(api.job_folder(tmp_path / name, name, rounds=10))).id for name in "mnopqrs"]
        async for _ in convoy.watch(jobs[-1]):
            pass
        assert [made.round async for made in convoy.rounds(jobs[-1])] == list(range(1, 11))
        assert [made.round async for made in convoy.rounds(jobs[-1], after=7)] == [8, 9, 10]
        assert (await convoy.round(jobs[-1], 2)).left_out_count == 1
        assert [job.id for job in await convoy.jobs()] == jobs[::-1]
        assert [job.id for job in await convoy.jobs(count=5)] == jobs[:1:-1]
        assert [job.name for job in await convoy.jobs(begins="o")] == ["o"]
        assert await convoy.find("p") == jobs[3]
        with pytest.raises(NotFound, match="there is no job 'nothing'") as refused:
            await convoy.find("nothing")
        assert refused.value.why == f"the newest: {', '.join(f'{id_[:8]} {name}' for id_, name in newest(jobs))}"


def newest(jobs):
    return [(jobs[6], "s"), (jobs[5], "r"), (jobs[4], "q")]


async def test_a_watch_begins_after_a_round(rest, tmp_path):
    async with rest.client("lead@a.org") as convoy:
        job = (await convoy.submit(api.job_folder(tmp_path, rounds=6))).id
        told = [made.round async for progress in convoy.watch(job, after=4) for made in progress.rounds]
        assert told == [5, 6]


async def test_changes_are_heard_of_until_the_stream_breaks_and_that_is_said(tmp_path, prod):
    rest = api.make(tmp_path, prod)
    async with rest.client() as convoy, aclosing(convoy.changes()) as items:
        async with rest.serving():
            first = await anext(items)
            await convoy.enable("site-2", enabled=False)
            assert (await anext(items)).number > first.number
        with pytest.raises(Unreachable, match="the server stops"):
            await anext(items)


async def test_a_stream_of_changes_that_ends_without_a_word_is_a_break(rest):
    async def one():
        yield ChangeView(number=1, at=1.0)

    rest.fake.changes = one
    async with rest.client() as convoy:
        with pytest.raises(link.Broken, match="ended the stream early"):
            assert [item.number async for item in convoy.changes()] == [1]


async def test_how_sites_were_is_told(rest):
    async with rest.client() as convoy:
        await convoy.enable("site-2", enabled=False)
        found = await convoy.presence()
    assert found.since == rest.fake.started_at
    assert [site.standing for site in found.sites] == [["connected"], ["connected", "disabled"]]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"standing": ["asleep"]}, {"at": [-1.0]}, {"at": [1e300]}, {"more": 1}, {"at": []}, {"site": "<b>"}),
        {"at": [1.0] * (MAX_CHANGES + 1), "standing": ["away"] * (MAX_CHANGES + 1)},
    ],
)
async def test_how_sites_were_is_checked(rest, wrong):
    site = {"site": "site-1", "at": [1.0], "standing": ["away"]} | wrong
    rest.fake.presence = lambda: Told({"now": 2.0, "since": 1.0, "sites": [site]})
    async with rest.client() as convoy:
        with pytest.raises(RemoteFault, match="the server's answer is not valid"):
            await convoy.presence()


class Told(dict):
    """What a server answers that does not keep to its own rules."""

    def model_dump_json(self):
        return json.dumps(self)
