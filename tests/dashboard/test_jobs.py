"""The pages of a job over a real REST API: what they show, push, offer and refuse."""

import asyncio
import json
import time
from contextlib import aclosing, asynccontextmanager
from urllib.parse import quote

import pytest

from convoy.admin import findings, views
from convoy.dashboard import bundles, curves, files, logs
from tests.admin.rest_api import job_folder
from tests.dashboard.conftest import logged_in, stream
from tests.dashboard.test_pages import EVIL, events

PAGES = ("", "/curves", "/rounds", "/rounds/1", "/updates", "/resources", "/logs", "/results", "/files", "/compare")
COST = views.CostView(
    pull_s=1, train_s=5, release_s=0.5, took_s=8, cpu_s=4, memory=1 << 30, down=2048, up=1024, answers=3
)


@asynccontextmanager
async def ended(rest, tmp_path, person="root@a.org", **config):
    """Give a client, its dashboard and a job that has ended."""
    async with rest.client("lead@a.org") as owner:
        sent = await owner.submit(job_folder(tmp_path, "tumours", config=json.dumps(config)))
    await asyncio.wait({rest.fake.running[sent.id]})
    async with rest.client(person) as client, logged_in(client) as shown:
        yield client, shown, rest.fake.kept[sent.id], f"/jobs/{sent.id}"


def evil_round(number, **changes):
    took = [views.Contribution(site="site-1", weight=1, norm=2.5, cosine=0.9, cost=COST)]
    out = [views.LeftOut(site="site-2", reason=EVIL, norm=40.0, cosine=-0.5)]
    made = views.RoundView(
        round=number,
        model=f"{number:064x}",
        metrics={"loss": 0.5, EVIL: float("nan")},
        best=False,
        took_part=took,
        left_out=out,
        committed_at=time.time(),
        took_part_count=1,
        left_out_count=1,
    )
    return made.model_copy(update=changes)


async def test_a_job_shows_its_state_its_rounds_and_its_sites(rest, tmp_path):
    async with ended(rest, tmp_path) as (_, shown, job, base):
        page = (await shown.get(base)).text
        for word in ("tumours", "completed", "lead@a.org", job.view.id, "site-1", "The job has ended.", "best so far"):
            assert word in page
        assert "Round 2 of 3 was committed: loss 0.5. 1 site took part." in page
        assert "Left out of round 2: site-2: the deadline of 5 s passed" in page
        assert page.index("The job is completed") < page.index("Round 3 of 3") < page.index("The job started")
        assert f'href="{base}/rounds/2"' in page
        assert "dialog-delete" in page
        assert "dialog-abort" not in page
        listed = (await shown.get("/jobs")).text
        assert f'href="{base}"' in listed


async def test_the_round_now_says_who_is_waited_for_and_since_when(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client() as client:
        sent = await client.submit(job_folder(tmp_path))
        detail = await rest.fake.job(sent.id)
        asked = views.OpenView(
            question="1.0",
            kind="train",
            round=1,
            asked_at=1e9,
            answered=3,
            left_out=1,
            waiting=30,
            waiting_for=["site-2"],
        )
        member = views.MemberView(site="site-2", state="away", reason="it has not been seen for 5 min")

        async def told(_, brief=False):
            return detail.model_copy(update={"open": [asked], "members": [member]})

        rest.fake.job = told
        async with logged_in(client) as shown:
            page = (await shown.get(f"/jobs/{sent.id}")).text
    assert 'data-since="1000000000.0"' in page
    assert "Round 1, train" in page
    assert '<span class="num strong">30</span> still to answer' in page
    assert "and 10 more" in page
    assert "it has not been seen for 5 min" in page


async def test_an_open_page_hears_of_rounds_of_sites_and_of_the_end(rest, tmp_path):
    rest.fake.may_go.clear()
    first, told = rest.fake.job, {}

    async def away(job, brief=False):
        found = await first(job)
        one = found.members[0].model_copy(update={"state": "away", "reason": "the network is down"})
        return found.model_copy(update={"members": [one, *found.members[1:]]})

    async with rest.client() as client, logged_in(client) as shown:
        sent = await client.submit(job_folder(tmp_path))
        async with aclosing(stream(shown, f"/jobs/{sent.id}/live?parts=all")) as found:
            async for name, data in found:
                told[name] = data
                if name == "sites" and "away" not in data:
                    rest.fake.job = away
                if name == "feed" and "site-1 is away: the network is down" in data:
                    rest.fake.may_go.set()
                if "The job is completed" in told.get("feed", "") and told.get("round") == "3":
                    break
    assert "completed" in told["head"]
    assert "dialog-delete" in told["verbs"]
    assert "The job has ended." in told["now"]
    assert "site-1 is away: the network is down" in told["feed"]


async def test_a_stream_of_a_job_ends_with_the_browser_and_leaves_no_reader_behind(rest, tmp_path, shown):
    rest.fake.may_go.clear()
    async with rest.client() as client:
        sent = await client.submit(job_folder(tmp_path))
    reading, begun = [], set()

    def counted(of):
        async def follow(*given):
            begun.add(of.__name__)
            reading.append(of.__name__)
            try:
                async for item in of(*given):
                    yield item
            finally:
                reading.remove(of.__name__)

        return follow

    rest.fake.watch, rest.fake.logs = counted(rest.fake.watch), counted(rest.fake.logs)
    async with aclosing(stream(shown, f"/jobs/{sent.id}/logs/live")) as found:
        async for _ in found:
            if begun == {"watch", "logs"}:
                break
    assert begun == {"watch", "logs"}
    async with asyncio.timeout(30):
        while reading:
            await shown.get("/assets/convoy.svg")


async def test_metrics_of_rounds_are_a_chart_and_two_jobs_share_one(rest, tmp_path):
    async with ended(rest, tmp_path) as (client, shown, job, base):
        job.rounds.append(evil_round(4))
        said = (await shown.get(f"{base}/series?key=loss")).json()
        assert said["x"]["values"] == [1, 2, 3, 4]
        assert said["series"] == [{"label": "loss", "values": [1, 0.5, pytest.approx(1 / 3), 0.5]}]
        job.rounds.append(evil_round(5))  # only the new one is asked for
        assert (await shown.get(f"{base}/series?key=loss")).json()["x"]["values"] == [1, 2, 3, 4, 5]
        odd = (await shown.get(f"{base}/series?key={quote(EVIL)}")).json()
        assert odd["series"][0]["values"] == [None, None]
        other = await client.submit(job_folder(tmp_path / "again", "tumours", rounds=1))
        await asyncio.wait({rest.fake.running[other.id]})
        both = (await shown.get(f"{base}/series?key=loss&with={other.id}")).json()
        assert [it["label"] for it in both["series"]] == [f"tumours {job.view.id[:8]}", f"tumours {other.id[:8]}"]
        assert both["series"][1]["values"] == [1, None, None, None, None]
        page = (await shown.get(f"{base}/compare?with={other.id}")).text
        assert "with.rounds" in page
        assert f"with={other.id}" in page
        assert "there is no job" in (await shown.get(f"{base}/compare?with=nothing")).text


async def test_live_metrics_are_by_site_and_their_mean(rest, tmp_path, monkeypatch):
    async with ended(rest, tmp_path) as (_, shown, job, base):
        job.points[:] = [
            views.PointView(
                site=site, number=step, at=100.0 + step, round=1, step=step, phase=phase, values={"l*ss": value}
            )
            for site, value in (("site-1", 1.0), ("site-2", 3.0))
            for step, phase in ((0, "train"), (1, "train"), (2, "test"))
        ]
        page = (await shown.get(f"{base}/curves")).text
        assert "<option selected>l*ss</option>" in page
        assert '<option value="">all</option><option>train</option>' in page
        said = (await shown.get(f"{base}/points?key=l*ss&phase=train")).json()
        assert said["x"] == {"label": "Step", "kind": "number", "whole": True, "values": [0, 1]}
        assert {it["label"]: it["values"] for it in said["series"]} == {
            "mean of the sites": [2, 2],
            "site-1": [1, 1],
            "site-2": [3, 3],
        }
        one = (await shown.get(f"{base}/points?key=l*ss&site=site-2&over=time")).json()
        assert [it["label"] for it in one["series"]] == ["site-2"]
        assert one["x"]["values"] == [100, 101, 102]
        assert (await shown.get(f"{base}/points?key=l%3Fss")).json()["series"] == [], "a key is no pattern"
        monkeypatch.setattr(curves, "MAX_POINTS", 2)
        assert "more points than one page reads" in (await shown.get(f"{base}/curves")).text


async def test_who_took_part_is_a_matrix_and_a_page_of_each_round(rest, tmp_path):
    async with ended(rest, tmp_path) as (_, shown, job, base):
        page = (await shown.get(f"{base}/rounds")).text
        assert page.count('class="cell took" title="took part, weight 10"') >= 4
        assert 'title="left out: the deadline of 5 s passed"' in page
        assert '<span class="hidden">left out: the deadline of 5 s passed</span>' in page
        assert "Round 2" in (one := (await shown.get(f"{base}/rounds/2")).text)
        assert "the deadline of 5 s passed" in one
        assert (await shown.get(f"{base}/rounds/99")).status_code == 404
        assert (await shown.get(f"{base}/rounds/x")).status_code == 404
        job.rounds[:] = [evil_round(number) for number in range(1, 46)]
        job.view = job.view.model_copy(update={"round": 45})
        newest = (await shown.get(f"{base}/rounds")).text
        assert f"{base}/rounds/45" in newest
        assert f"{base}/rounds/27" in newest
        assert f'href="{base}/rounds/26"' not in newest
        assert "Later rounds" not in newest
        earlier = (await shown.get(f"{base}/rounds?to=26")).text
        assert f"{base}/rounds/7" in earlier
        assert "Later rounds" in earlier


async def test_a_thousand_sites_of_a_job_are_paged_and_searched(rest, tmp_path):
    async with ended(rest, tmp_path) as (_, shown, job, base):
        took = [views.Contribution(site=f"s-{n:04}", weight=1, cost=COST) for n in range(1000)]
        whole = evil_round(1, took_part=took, took_part_count=1000)
        job.rounds[:] = [whole]
        job.view = job.view.model_copy(update={"round": 1})

        first = rest.fake.job

        async def told(job_, brief=False):
            members = [views.MemberView(site=it.site, state="ended", cost=COST) for it in took]
            return (await first(job_, brief=brief)).model_copy(update={"members": members})

        rest.fake.job = told
        page = (await shown.get(f"{base}/rounds?page=20")).text
        assert "1,000 sites, page 20 of 20" in page
        assert page.count('class="cell took"') == 51  # with the one in the legend
        assert page.count(f'<a href="{base}/rounds/1">1 site<span class="hidden">, left out of round 1') == 1
        found = (await shown.get(f"{base}/rounds?search=S-09&page=2")).text
        assert "100 sites, page 2 of 2" in found
        assert found.count('class="cell took"') == 51
        assert f'href="{base}/rounds?search=S-09&amp;page=1">Previous sites' in found
        for place in (f"{base}/resources?round=1", f"{base}/resources?"):
            costs = (await shown.get(f"{place}&page=2")).text
            assert "1,000 sites, page 2 of 40" in costs
            assert costs.count('<th scope="row">') == 25
            found = (await shown.get(f"{place}&search=s-0123")).text
            assert "1 sites, page 1 of 1" in found
            assert found.count('<th scope="row">') == 1
        assert 'href="' + f"{base}/resources?round=1&amp;page=2" in (await shown.get(f"{base}/resources?round=1")).text


async def test_a_round_of_a_thousand_sites_is_paged_and_searched(rest, tmp_path):
    async with ended(rest, tmp_path) as (_, shown, job, base):
        first = rest.fake.job

        async def told(job_, brief=False):
            members = [views.MemberView(site=f"s-{n:04}", state="ended") for n in range(1000)]
            return (await first(job_, brief=brief)).model_copy(update={"members": members})

        rest.fake.job = told
        took = [
            views.Contribution(site=f"s-{n:04}", weight=1, cost=COST, norm=1 + n, cosine=n / 1000) for n in range(1000)
        ]
        out = [views.LeftOut(site=f"t-{n:04}", reason=EVIL, norm=40.0, cosine=0.999) for n in range(150)]
        whole = evil_round(1, took_part=took, took_part_count=1000, left_out=out, left_out_count=150)
        job.rounds[:] = [whole]
        job.view = job.view.model_copy(update={"round": 1})
        page = (await shown.get(f"{base}/rounds/1?page=10&out=2")).text
        assert "1,000 sites, page 10 of 10" in page
        assert "150 sites, page 2 of 2" in page
        assert page.count("<td>s-") == 100
        assert page.count("<td>t-") == 50
        assert f'href="{base}/rounds/1?out=2&amp;page=9"' in page
        assert f'href="{base}/resources?round=1">What this round took' in page
        found = (await shown.get(f"{base}/rounds/1?search=S-001")).text
        assert found.count("<td>s-") == 10
        assert "<td>t-" not in found
        updates = (await shown.get(f"{base}/updates?round=1&page=12")).text
        assert "1,150 updates, page 12 of 12" in updates
        assert updates.count("<td>t-") + updates.count("<td>s-") == 50
        assert updates.count("<circle") == 500
        assert "the 500 updates of 1,150 that point farthest elsewhere" in updates
        assert "1 updates, page 1 of 1" in (await shown.get(f"{base}/updates?round=1&search=t-0007")).text
        said = (await shown.get(f"{base}/updates/series?of=cosine&round=1")).json()
        assert [it["label"] for it in said["series"]] == [f"s-{n:04}" for n in range(12)]


async def test_costs_are_bars_and_numbers(rest, tmp_path):
    async with ended(rest, tmp_path) as (_, shown, _, base):
        first = rest.fake.job

        async def told(job_, brief=False):
            found = await first(job_)
            return found.model_copy(
                update={
                    "members": [
                        views.MemberView(site="site-1", state="ended", cost=COST),
                        views.MemberView(site="site-2", state="ended", cost=views.CostView(took_s=16, train_s=16)),
                    ]
                }
            )

        rest.fake.job = told
        page = (await shown.get(f"{base}/resources")).text
        assert page.index("site-2") < page.index("site-1"), "who took longest comes first"
        assert 'class="training" x="0.0" y="0" width="1000.0"' in page
        assert 'class="waiting" x="406.2" y="0" width="93.8"' in page  # 1.5 of 16 s
        assert 'aria-label="Seconds of site-1: fetching 1 s, training 5 s, checks 0 s, waiting 2 s"' in page
        for word in ("1.0 GiB", "2.0 KiB", "1.5 s"):
            assert word in page


async def test_updates_that_point_elsewhere_come_first_and_those_left_out_are_marked(rest, tmp_path):
    async with ended(rest, tmp_path) as (_, shown, job, base):
        assert "folded no updates" in (await shown.get(f"{base}/updates")).text
        job.rounds[:] = [evil_round(number) for number in (1, 2, 3)]
        page = (await shown.get(f"{base}/updates?round=2")).text
        assert page.index("<td>site-2") < page.index("<td>site-1")
        assert 'class="update out" cx="260.0" cy="20.0"' in page
        said = (await shown.get(f"{base}/updates/series?of=cosine")).json()
        assert {it["label"]: it["values"] for it in said["series"]} == {"site-1": [0.9] * 3, "site-2": [-0.5] * 3}
        said = (await shown.get(f"{base}/updates/series?of=norm")).json()
        assert said["series"][1]["values"] == [40] * 3


async def test_the_log_comes_line_by_line_cut_and_by_site_and_is_a_file(rest, tmp_path, monkeypatch):
    async with ended(rest, tmp_path) as (_, shown, job, base):
        job.log.append(views.LogLine(site="site-1", text=EVIL + "x" * 5000))

        async def lines(query, last):
            batches = []
            async with aclosing(stream(shown, f"{base}/logs/live{query}")) as told:
                async for name, data in told:
                    batches += [json.loads(data)] if name == "lines" else []
                    if batches and last in batches[-1][-1][1]:
                        break
            return batches

        every = [line for batch in await lines("", "more characters") for line in batch]
        assert len(every) == 7
        assert every[0] == ["site-1", "round 1: loss 1.000"]
        assert every[-1][1].endswith(" more characters")
        assert "\x1b" not in every[-1][1]
        assert {site for batch in await lines("?site=site-2", "round 3") for site, _ in batch} == {"site-2"}
        monkeypatch.setattr(logs, "MAX_LINES", 3)
        newest = await lines("", "more characters")
        assert max(map(len, newest)) <= 3, "what a slow browser has not taken does not pile up"
        answer = await shown.get(f"{base}/logs/all?site=site-1")
        assert answer.headers["content-disposition"] == f'attachment; filename="{job.view.id[:8]}-site-1.log"'
        assert answer.text.splitlines()[0] == "round 1: loss 1.000"
        assert "x" * 5000 in answer.text
        assert (await shown.get(f"{base}/logs/all?site=nobody")).status_code == 404


async def test_results_are_downloaded_as_they_are(rest, tmp_path):
    async with ended(rest, tmp_path) as (_, shown, job, base):
        job.results["artifacts/site-1/a b<i>.txt"] = b"text"
        page = (await shown.get(f"{base}/results")).text
        assert f'href="{base}/results/files/model.safetensors"' in page
        assert f'href="{base}/results/files/artifacts/site-1/a%20b%3Ci%3E.txt"' in page
        answer = await shown.get(f"{base}/results/files/model.safetensors")
        assert answer.content == job.results["model.safetensors"]
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert (await shown.get(f"{base}/results/files/artifacts/site-1/a%20b%3Ci%3E.txt")).content == b"text"
        for name in ("nothing", "../../x", quote("../job.json", safe="")):
            assert (await shown.get(f"{base}/results/files/{name}")).status_code == 404


async def test_statistics_and_metrics_of_models_at_sites_are_tables_and_pictures(rest, tmp_path):
    said = {
        "tables": [{"title": EVIL, "heads": ["mean", EVIL], "rows": [["17.5", EVIL]] * 300, "notes": [EVIL]}],
        "columns": {"age": {"histogram": {"edges": [0, 10, 20], "counts": [1, 4]}}},
        "pictures": [
            {"kind": "lines", "name": "survival", "x": "time", "lines": [{"label": "a", "x": [0, 1], "y": [1, 0.5]}]},
            {"kind": "bars", "name": EVIL, "labels": [EVIL], "heights": [0.7]},
        ],
    }
    async with ended(rest, tmp_path) as (_, shown, job, base):
        job.results[findings.FILE] = json.dumps(said).encode()
        told = {"auc:a@a": 0.9, "auc:a@b": 0.5, "auc:b@a": 0.7}
        job.view = job.view.model_copy(update={"metrics": told})
        page = (await shown.get(f"{base}/results")).text
        assert "<script>alert" not in page
        assert "17.5" in page
        assert "and 100 more rows" in page
        assert '<td class="num shade-5">0.9</td><td class="num shade-0">0.5</td>' in page
        assert 'width="250.0"' in page  # the lower bar of the histogram
        assert "0 to 10" in page
        assert "results/lines?picture=1" in page
        chart = (await shown.get(f"{base}/results/lines?picture=1")).json()
        assert chart["series"] == [{"label": "a", "values": [1, 0.5]}]
        assert (await shown.get(f"{base}/results/lines?picture=9")).status_code == 404
        job.results[findings.FILE] = b"[[["
        assert "statistics.json cannot be read" in (await shown.get(f"{base}/results")).text


async def test_files_are_read_with_limits_and_asked_for_once(rest, tmp_path):
    folder = job_folder(tmp_path)
    (folder / "weights.bin").write_bytes(b"\0\1")
    (folder / "evil & co.txt").write_text(f"one\n{EVIL}\n" + "x\n" * 20_000)
    async with rest.client() as client, logged_in(client) as shown:
        sent = await client.submit(folder)
        base = f"/jobs/{sent.id}"
        page = (await shown.get(f"{base}/files")).text
        assert "weights.bin" in page
        assert 'name=evil%20%26%20co.txt"' in page
        text = (await shown.get(f"{base}/files/read?name=evil%20%26%20co.txt")).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text
        assert "The file is longer." in text
        assert text.count('class="row"') == files.MAX_LINES
        assert "It is a binary file." in (await shown.get(f"{base}/files/read?name=weights.bin")).text
        assert (await shown.get(f"{base}/files/read?name=../job.yaml")).status_code == 404
    assert [it for it in rest.fake.noted if it[1] == "clone"] == [("admin:root@a.org", "clone", f"job:{sent.id}", "")]


def test_a_character_that_the_limit_cuts_in_two_is_no_binary_file():
    found = files.text_of(b"a" * (files.MAX_BYTES - 1) + "ü".encode() + b"b")
    assert found.cut
    assert found.lines == ["a" * (files.MAX_BYTES - 1)]
    assert files.text_of(b"a\xff").problem


async def test_bundles_are_not_kept_for_ever(rest, tmp_path):
    async with rest.client() as client:
        kept = bundles.Bundles()
        ids = [(await client.submit(job_folder(tmp_path, f"job-{n}"))).id for n in range(3)]
        for job in ids:
            assert (await kept.of(client, job)).id == job
        assert list(kept.kept) == ids[1:]


async def test_a_job_is_aborted_cloned_after_its_files_were_shown_and_deleted(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client() as client, logged_in(client) as shown:
        sent = await client.submit(job_folder(tmp_path))
        base = f"/jobs/{sent.id}"
        assert "dialog-abort" in (await shown.get(base)).text
        answer = await shown.post(f"{base}/abort")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{base}?done=abort")
        page = (await shown.get(answer.headers["location"])).text
        assert "aborted by root@a.org" in page
        assert "The job is aborted." in page
        again = await shown.post(f"{base}/abort")
        assert again.status_code == 409
        assert "has ended already" in again.text
        assert "train.py" in (await shown.get(f"{base}/clone")).text
        answer = await shown.post(f"{base}/clone")
        assert answer.status_code == 303
        new = answer.headers["location"].split("?")[0]
        assert new != base
        assert "submitted under your name" in (await shown.get(answer.headers["location"])).text
        assert (await shown.post(f"{base}/delete")).headers["location"] == "/jobs"
        assert (await shown.get(base)).status_code == 404


@pytest.mark.parametrize(
    ("person", "tabs"),
    [
        ("lead@a.org", {"Logs", "Results", "Files"}),
        ("boss@a.org", {"Logs", "Results"}),
        ("boss@b.org", set()),
        ("look@a.org", set()),
    ],
)
async def test_what_a_role_may_not_see_is_not_offered_and_is_refused(rest, tmp_path, person, tabs):
    async with ended(rest, tmp_path, person, fail_at=2) as (_, shown, _, base):
        page = (await shown.get(base)).text
        assert {name for name in ("Logs", "Results", "Files") if f">{name}</a>" in page} == tabs
        assert ("the scanner is off" in page) == ("Logs" in tabs)
        assert ("dialog-delete" in page) == (person in ("lead@a.org", "boss@a.org"))
        assert (f'href="{base}/clone"' in page) == (person == "lead@a.org")
        codes = {
            "Logs": [f"{base}/logs/all", f"{base}/points?key=loss"],
            "Results": [f"{base}/results/files/nothing"],
            "Files": [f"{base}/files", f"{base}/clone", f"{base}/files/read?name=train.py"],
        }
        for name, paths in codes.items():
            for path in paths:
                allowed = {200, 404} if name in tabs or path.endswith("nothing") else {403}
                assert (await shown.get(path)).status_code in allowed, path
        assert "Live metrics" not in (await shown.get(f"{base}/curves")).text or "Logs" in tabs
        expected = {"lead@a.org": (303, 303), "boss@a.org": (403, 303)}.get(person, (403, 403))
        assert (
            (await shown.post(f"{base}/clone")).status_code,
            (await shown.post(f"{base}/delete")).status_code,
        ) == expected


async def test_hostile_words_are_text_on_every_page(rest, tmp_path):
    async with ended(rest, tmp_path, fail_at=2) as (_, shown, job, base):
        job.view = job.view.model_copy(update={"cause": EVIL, "metrics": {EVIL: 1.0, f"{EVIL}:a@b": 2.0}, "round": 3})
        job.traceback = EVIL
        job.spec = {EVIL: {EVIL: EVIL}}
        job.rounds.extend(evil_round(number) for number in (2, 3))
        job.results = {EVIL: b""}
        job.points.append(
            views.PointView(site="site-1", number=9, at=1, round=1, step=0, phase=EVIL, values={EVIL: 1.0})
        )
        first = rest.fake.job

        async def told(job_, brief=False):
            found = await first(job_)
            bad = views.MemberView(site="site-1", state="refused", reason=EVIL, missing={EVIL: EVIL}, cost=COST)
            asked = views.OpenView(
                question=EVIL, kind=EVIL, round=1, asked_at=1, answered=0, left_out=0, waiting=1, waiting_for=["site-1"]
            )
            return found.model_copy(update={"members": [bad], "open": [asked]})

        rest.fake.job = told
        texts = [(await shown.get(base + path)).text for path in PAGES]
        texts += [(await shown.get(f"{base}/compare?with={quote(EVIL)}")).text]
        texts += [(await shown.get(f"{base}/logs?site={quote(EVIL)}")).text]
        texts += [data for _, data in await events(shown, f"{base}/live?parts=all", 9)]
    for text in texts:
        assert "This did not work" not in text or "there is no job" in text
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
    assert "&lt;script&gt;alert" in texts[0]


async def test_odd_numbers_in_addresses_are_the_nearest_page(rest, tmp_path):
    async with ended(rest, tmp_path) as (_, shown, _, base):
        for path in ("/rounds?to=0", "/rounds?to=999999999&page=99", "/resources?page=9&round=1e9", "/results?page=99"):
            assert (await shown.get(base + path)).status_code == 200, path
        assert (await shown.get("/jobs/0123")).status_code == 404
        assert (await shown.get(f"/jobs/{'0' * 32}")).status_code == 404
