"""Devices in virtual time: hours, rates, drop-outs, and what the server's rules make of slow and absent sites."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import BadInput
from convoy.sim.devices import devices, later, merged, next_change, within
from convoy.sim.plan import read_plan
from convoy.sim.run import run
from convoy.spec import units
from convoy.spec.devices import DAY_S, Devices
from tests.scenarios.conftest import put_job

HOUR = 3600.0
TRAIN = """
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(25_000, np.float32)}


def train(task):
    return convoy.Reply({"w": task.model["w"] + np.float32(task.seed % 7)}, weight=10)
"""


def simulated(folder, devices, *, workers=0, sites=10, **spec):
    known = {"trainer": "train.py:train", "model": "train.py:initial", "seed": 3, "patience": "10m"}
    files = {"train.py": TRAIN, "simulate.yaml": f"sites: {sites}\ndevices: {json.dumps(devices)}\n"}
    plan = read_plan(put_job(folder / "job", files, **known | spec))
    return run(plan, folder / f"of-{workers}", workers=workers)


hours = st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda it: it[0] != it[1]), max_size=4)


@given(hours, st.floats(0, 3 * DAY_S), st.floats(0, 2 * DAY_S))
def test_work_takes_as_much_of_the_hours_as_it_needs(given, at, takes):
    spans = merged([(begin * HOUR, end * HOUR) for begin, end in given])
    end, there, place = later(spans, at, takes), 0.0, at
    while place < end:  # add up the hours on the way
        change = min(next_change(spans, place), end)
        there += (change - place) if within(spans, place) else 0.0
        place = change
    assert there == pytest.approx(takes, abs=1e-3)


def test_hours_over_midnight_and_hours_that_touch_are_one():
    assert merged([(22 * HOUR, 6 * HOUR)]) == ((0.0, 6 * HOUR), (22 * HOUR, DAY_S))
    assert merged([(0.0, 8 * HOUR), (8 * HOUR, DAY_S)]) == ()
    assert later(merged([(22 * HOUR, 6 * HOUR)]), 5 * HOUR, 2 * HOUR) == 23 * HOUR


@pytest.mark.parametrize(("text", "rate"), [("20Mbit", 2.5e6), ("500kbit", 62_500.0), ("5MB", 5e6), (1000, 1000.0)])
def test_a_rate_is_bits_or_bytes_a_second(text, rate):
    assert units.rate_bytes(text) == rate


@pytest.mark.parametrize("text", ["fast", "0", "0Mbit", "-1", "20Mbps", ""])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(BadInput, match="rate"):
        units.rate_bytes(text)


def test_each_profile_has_its_share_of_the_sites_whatever_their_order():
    spec = Devices.model_validate({"profiles": {"phone": {"share": 2}, "desk": {"share": 1}, "none": {"share": 0}}})
    sites = [f"site-{number}" for number in range(10)]
    one, other = devices(spec, sites, "7"), devices(spec, sites[::-1], "7")
    kinds = [one[site].kind for site in sites]
    assert (kinds.count("phone"), kinds.count("desk")) == (7, 3)
    assert kinds == [other[site].kind for site in sites]
    assert kinds != [devices(spec, sites, "8")[site].kind for site in sites]


def test_a_round_takes_as_long_as_its_slowest_site(tmp_path):
    slow = {"share": 1, "speed": 0.5, "down": "80kbit", "up": "40kbit"}
    spec = {"work": "10s", "per_weight": "1s", "profiles": {"slow": slow, "fast": {"share": 9}}}
    done = simulated(tmp_path, spec, with_={"rounds": 2})
    size = 100_000  # bytes of the model
    takes = size / 10_000 + (10 + 10) / 0.5 + size / 5_000
    assert [made.virtual_s for made in done.summary.rounds] == pytest.approx([0, takes, 2 * takes])
    assert [made.bytes_up for made in done.summary.rounds] == [0, 10 * size, 20 * size]
    assert json.loads((done.folder / "simulation.json").read_text())["devices"]["slow"]["tasks"] == 2


def test_who_is_too_slow_for_the_deadline_is_left_out_and_works_in_no_later_round_on_it(tmp_path):
    spec = {"work": "1m", "profiles": {"slow": {"share": 3, "speed": 0.1}, "fast": {"share": 7}}}
    done = simulated(tmp_path, spec, with_={"rounds": 3, "deadline": "2m", "min_sites": 1})
    assert done.job.state == "completed", done.job.cause
    for made in done.rounds[1:]:
        assert len(made.took_part) == 7
        assert {reason for _, reason in made.left_out} == {"train: no answer within the round's deadline of 120 s"}
    assert done.rounds[-1].committed_at == 360


def test_a_site_that_works_longer_than_the_patience_is_waited_for(tmp_path):
    spec = {"work": "1h", "profiles": {"slow": {}}}
    done = simulated(tmp_path, spec, with_={"rounds": 1}, patience="1m")
    assert (done.job.state, len(done.rounds[-1].took_part), done.rounds[-1].committed_at) == ("completed", 10, 3600)


def test_who_drops_out_begins_its_task_anew_when_it_is_back(tmp_path):
    spec = {"work": "1m", "profiles": {"phone": {"drops": 0.5, "back": "30s"}}}
    done = simulated(tmp_path, spec, with_={"rounds": 4, "min_sites": 10})
    kind = done.summary.devices["phone"]
    assert kind.drops > 5
    assert kind.tasks == 40 + kind.drops
    assert all(len(made.took_part) == 10 for made in done.rounds[1:])


def test_who_stays_away_longer_than_the_patience_is_left_out(tmp_path):
    spec = {"work": "1m", "profiles": {"phone": {"drops": 0.3, "back": "10h"}}}
    done = simulated(tmp_path, spec, with_={"rounds": 1, "min_sites": 1}, patience="5m")
    out = dict(done.rounds[-1].left_out)
    assert len(out) == done.summary.devices["phone"].drops > 0
    assert all("no progress for 300 s" in reason for reason in out.values())


def test_a_site_works_only_in_its_hours(tmp_path):
    spec = {"work": "2h", "profiles": {"night": {"available": ["22:00-23:00"]}}}
    done = simulated(tmp_path, spec, with_={"rounds": 1}, patience="3d")
    assert done.rounds[-1].committed_at == DAY_S + 23 * HOUR


def test_a_quorum_goes_on_without_the_slow_ones(tmp_path):
    flow = """
async def run(fleet, rounds=2):
    async for round in fleet.rounds(rounds):
        seen = [update.site async for update in fleet.ask("train", round.model, quorum=6, grace="5s", order="arrival")]
        await round.commit(round.model, metrics={"sites": len(seen)})
"""
    spec = {"work": "1m", "profiles": {"slow": {"share": 4, "speed": 0.1}, "fast": {"share": 6}}}
    known = {"trainer": "train.py:train", "model": "train.py:initial", "workflow": "flow.py:run"}
    files = {"train.py": TRAIN, "flow.py": flow, "simulate.yaml": f"sites: 10\ndevices: {json.dumps(spec)}\n"}
    done = run(read_plan(put_job(tmp_path / "job", files, **known)), tmp_path / "out", workers=0)
    assert done.job.state == "completed", done.job.cause
    assert [made.metrics["sites"] for made in done.rounds[1:]] == [6, 6]
    assert done.rounds[-1].committed_at == 130


@pytest.mark.parametrize("workflow", ["fedavg", "fedbuff"])
def test_the_bits_are_the_same_for_each_number_of_workers(tmp_path, workflow):
    phone = {"share": 6, "speed": 0.3, "down": "8Mbit", "up": "2Mbit", "drops": 0.2, "back": "1m"}
    spec = {"work": "20s", "spread": 0.5, "profiles": {"phone": phone, "desk": {"share": 4}}}
    more = {"deadline": "2m", "min_sites": 1} if workflow == "fedavg" else {"buffer": 4}
    found = [
        simulated(tmp_path / f"{workers}", spec, workers=workers, workflow=workflow, with_={"rounds": 6, **more})
        for workers in (0, 1, 2)
    ]
    assert {one.job.state for one in found} == {"completed"}
    assert len({one.rounds[-1].model for one in found}) == 1
    assert len({json.dumps([str(made) for made in one.summary.rounds]) for one in found}) == 1


def test_an_asynchronous_workflow_hears_fast_sites_more_often(tmp_path):
    spec = {"work": "1m", "profiles": {"slow": {"share": 5, "speed": 0.2}, "fast": {"share": 5}}}
    done = simulated(tmp_path, spec, workflow="fedbuff", with_={"rounds": 10, "buffer": 5, "min_sites": 1})
    heard = [site for made in done.rounds for site, _ in made.took_part]
    by_site = sorted(heard.count(site) for site in done.sites)
    assert max(by_site[:5]) < min(by_site[5:])
    assert done.rounds[-1].committed_at < 10 * 300 / 2  # nobody waits for the slow ones


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("devices: {}", r"simulate.yaml:2.*profiles"),
        ("devices: {profiles: {phone: {sped: 2}}}", 'did you mean "speed"'),
        ("devices: {profiles: {}}", "at least one profile"),
        ("devices: {work: -1, profiles: {phone: {}}}", '"work" is'),
        ("devices: {profiles: {phone: {drops: 1}}}", "drops"),
        ("devices: {profiles: {phone: {down: fast}}}", "a rate such as 20Mbit"),
        ("devices: {profiles: {phone: {available: [night]}}}", "hours of a day such as 22:00-06:00"),
        ("devices: {profiles: {phone: {share: 0}}}", "share above 0"),
        ("devices: {work: soon, profiles: {phone: {}}}", "a duration such as"),
    ],
)
def test_devices_that_cannot_be_are_refused_with_their_line(tmp_path, stated, said):
    files = {"train.py": TRAIN, "simulate.yaml": f"sites: 3\n{stated}\n"}
    folder = put_job(tmp_path / "job", files, trainer="train.py:train")
    with pytest.raises(BadInput, match=said):
        read_plan(folder)


def test_profiles_without_hours_never_change():
    assert next_change(merged([]), 5.0) == math.inf
