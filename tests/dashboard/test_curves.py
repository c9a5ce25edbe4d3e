"""Curves, feeds and joined streams as values: what is thinned, kept, told and closed."""

import asyncio

import pytest

from convoy.admin import views
from convoy.dashboard import feed, histories, results, series
from convoy.dashboard.merging import merged
from convoy.dashboard.streams import Event
from convoy.errors import Unreachable


def point(number, *, site="site-1", step=None, value=1.0, at=0.0):
    return views.PointView(site=site, number=number, at=at, round=1, step=step, values={"loss": value})


def test_a_long_curve_is_thinned_to_means_and_keeps_both_ends():
    found = series.of_points([point(n, step=n, value=float(n)) for n in range(10_000)], "loss", "step")
    places = found["x"]["values"]
    values = found["series"][0]["values"]
    assert len(places) <= series.MAX_PLACES
    assert (places[0], places[-1]) == (0, 9999)
    assert values == sorted(values)
    assert sum(values) / len(values) == pytest.approx(4999.5, rel=0.01)


def test_the_mean_is_that_of_all_sites_and_the_workflow_is_none_of_them():
    points = [point(0, site=f"site-{n:02}", step=0, value=float(n)) for n in range(20)]
    found = series.of_points([*points, point(0, site="server", step=0, value=1000.0)], "loss", "step")
    assert found["series"][0] == {"label": series.MEAN, "values": [pytest.approx(9.5)]}
    assert len(found["series"]) == 1 + series.MAX_CURVES
    assert found["sites"] == 21


def test_steps_that_begin_again_are_shown_by_time():
    assert series.over([point(0, step=0), point(1, step=1), point(0, site="site-2", step=0)]) == "step"
    assert series.over([point(0, step=5), point(1, step=0)]) == "time"
    assert series.over([point(0)]) == "time"


def test_numbers_that_json_cannot_say_are_gaps():
    found = series.chart("x", {"a": {0.0: float("nan"), 1.0: float("inf"), 2.0: -1e308}})
    assert found["series"][0]["values"] == [None, None, -1e308]
    assert len(series.chart("x", {"a": dict.fromkeys((n * 5e-324 for n in range(2000)), 1.0)})["series"]) == 1
    huge = series.of_points([point(n, step=n % 2, value=1.7e308) for n in range(4)], "loss", "step")
    assert huge["series"][0]["values"] == [1.7e308, 1.7e308]


def test_shades_go_from_the_lowest_to_the_highest_value_however_far_they_are_apart():
    (heat,) = results.heats({"auc:a@b": -1.7e308, "auc:a@c": 1.7e308, "auc:b@b": float("nan"), "loss": 1.0})
    assert heat.rows[0][1] == [(-1.7e308, 0), (1.7e308, results.SHADES - 1)]
    assert heat.rows[1][1][0][1] == 0
    assert heat.rows[1][1][1] is None


class Rounds:
    """A client whose job has so many committed rounds; it remembers after which it was asked."""

    def __init__(self, count):
        self.count, self.asked = count, []

    async def rounds(self, job, *, after):
        self.asked.append(after)
        for number in range(after + 1, self.count + 1):
            yield views.RoundView(
                round=number,
                model="0" * 64,
                metrics={"loss": 1.0},
                best=False,
                took_part=[],
                left_out=[],
                committed_at=0,
                took_part_count=0,
                left_out_count=0,
            )


async def test_only_new_rounds_are_asked_for_and_histories_are_bounded(monkeypatch):
    monkeypatch.setattr(histories, "MAX_ROUNDS", 5)
    kept, client = histories.Histories(), Rounds(3)
    assert (await kept.of(client, "a")).rounds == [1, 2, 3]
    client.count = 9
    both = await asyncio.gather(kept.of(client, "a"), kept.of(client, "a"))
    assert both[0].rounds == both[1].rounds == [1, 2, 3, 4, 5]
    assert client.asked == [0, 3]
    for job in "bcdefghij":
        await kept.of(Rounds(1), job)
    assert list(kept.kept) == list("cdefghij")


def detail(state="ready", reason="", cause=""):
    job = views.JobView(
        id="0" * 32,
        name="tumours",
        state="running",
        cause=cause,
        submitter="ada",
        org="a",
        submitted_at=1,
        started_at=2,
        ended_at=0,
        round=0,
        rounds=3,
        waiting_for=[],
        waiting=0,
        metrics={},
    )
    member = views.MemberView(site="site-1", state=state, reason=reason)
    return views.JobDetail(job=job, traceback="", members=[member], rounds=[], spec={}, results=[])


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (detail(), detail("away", "its stream ended"), ["site-1 is away: its stream ended"]),
        (detail("away"), detail(), ["site-1 is back."]),
        (detail("starting"), detail(), ["site-1 is ready."]),
        (detail("starting"), detail("refused", "no such data"), ["site-1 refused the job: no such data"]),
        (detail("starting"), detail("starting", "a GPU"), ["site-1 waits: a GPU"]),
        (detail(), detail(cause="for 2 sites"), ["The job waits: for 2 sites"]),
        (detail(), detail("ended"), []),
        (detail(), detail(), []),
    ],
)
def test_what_differs_between_two_looks_is_told_in_a_sentence(before, now, told):
    assert [it.text for it in feed.changes(before, now, 5.0)] == told


def test_a_feed_is_bounded_and_newest_first():
    noticed = [feed.Entry(float(n), "warn", f"event {n}") for n in range(1000)]
    found = feed.entries(detail(), noticed)
    assert len(found) == feed.MAX_ENTRIES
    assert found[0].text == "event 999"


async def test_joined_streams_take_turns_and_an_error_of_one_closes_all():
    closed = []

    async def endless(name):
        try:
            while True:
                yield Event(name, "")
                await asyncio.sleep(0)
        finally:
            closed.append(name)

    async def broken():
        yield Event("broken", "")
        raise Unreachable("the server is away")

    heard = set()

    async def listen():
        async for event in merged(endless("a"), endless("b"), broken()):
            heard.add(event.name)

    with pytest.raises(Unreachable, match="away"):
        await listen()
    assert heard >= {"a", "b", "broken"}
    assert sorted(closed) == ["a", "b"]


async def test_joined_streams_end_when_all_have_ended():
    async def short(name):
        yield Event(name, "1")
        yield Event(name, "2")

    assert sorted([(it.name, it.data) async for it in merged(short("a"), short("b"))]) == [
        ("a", "1"),
        ("a", "2"),
        ("b", "1"),
        ("b", "2"),
    ]
