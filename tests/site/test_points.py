"""Live metrics at a site: what its policy lets leave, and nothing twice after the connection broke."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.control import points
from convoy.control.points import Point
from convoy.errors import BadInput, RemoteFault
from convoy.site.line import Line
from convoy.site.points import Allowance, JobPoints, leaving
from convoy.spec.policy import Leave, Live
from convoy.store.points import read
from convoy.wire import convoy_pb2 as pb


@pytest.fixture
async def line():
    made = Line(None, None)
    made.connected.set()
    return made


class At:
    """One job at a site whose policy a test may change."""

    def __init__(self, line, folder, leave=None):
        self.line, self.leave, self.said = line, leave or Leave(), []
        self.time_s, path = 7200.0, folder / "points.jsonl"
        self.points = JobPoints("j", line, self.now, self.said.append, path, clock=lambda: self.time_s)
        self.points.open()

    def now(self):
        if isinstance(self.leave, Exception):
            raise self.leave
        return self.leave

    def measure(self, *values, **more):
        self.points.take(pb.Points(points=[pb.Point(values=one, **more) for one in values]))

    async def sent(self):
        """Return the points that are sent now."""
        await self.points._send(None)
        lines = b""
        while not self.line._ups.empty():
            lines += self.line._ups.get_nowait().points.lines
        assert not lines or points.are_lines(lines)
        return read(lines)


async def test_keys_that_carry_data_out_in_their_names_stay(line, tmp_path):
    at = At(line, tmp_path, Leave(live=Live(("loss", "val_*"))))
    at.measure({"loss": 0.5, "patient 7 has it": 1.0}, {"name: Ada": 2.0}, {"val_auc": 0.9})
    assert [dict(point.values) for point in await at.sent()] == [{"loss": 0.5}, {"val_auc": 0.9}]
    assert b"patient" not in at.points.file.path.read_bytes()
    await at.points.close()
    assert at.said == [
        "some values of live metrics stay here, because of the site's policy",
        "2 values of live metrics stayed here, because of the site's policy",
    ]


async def test_values_leave_rounded_and_a_phase_or_a_step_says_nothing_of_its_own(line, tmp_path):
    at = At(line, tmp_path, Leave(live=Live(digits=3)))
    at.measure({"loss": 0.123456789}, {"loss": 98765.4321}, step=7, phase="train")
    assert [point.values["loss"] for point in await at.sent()] == [0.123, 98800.0]
    for secret in ({"phase": "born 1970"}, {"step": 1970_01_01_12}):
        with pytest.raises(RemoteFault):
            at.measure({"loss": 1.0}, **secret)


@pytest.mark.parametrize("leave", [Leave(metrics=False), Leave(live=None), BadInput("the policy is broken")])
async def test_nothing_leaves_where_the_policy_says_so_or_cannot_be_read(line, tmp_path, leave):
    at = At(line, tmp_path, leave)
    at.measure({"loss": 0.5})
    assert await at.sent() == []
    assert not at.points.file.path.exists()
    at.leave = Leave()  # from now on
    at.measure({"loss": 0.25})
    assert [point.values["loss"] for point in await at.sent()] == [0.25]


HOURS = st.lists(st.tuples(st.floats(0, 4 * 3600), st.integers(1, 5)), max_size=80)


@given(HOURS, st.integers(1, 40))
def test_no_hour_of_the_clock_has_more_values_than_the_policy_allows(measured, per_hour):
    given_ = [Point({f"k{n}": 1.0 for n in range(count)}, at=at) for at, count in sorted(measured)]
    kept, held_back = leaving(given_, Leave(live=Live(per_hour=per_hour)), Allowance())
    for hour in range(5):
        assert sum(len(point.values) for point in kept if point.at // 3600 == hour) <= per_hour
    assert held_back + sum(len(point.values) for point in kept) == sum(count for _, count in measured)


def test_a_clock_that_goes_back_gives_nothing_anew():
    allowance = Allowance()
    assert [allowance.take(1, 2, at) for at in (3600.0, 3601.0, 0.0, 3602.0, 7200.0)] == [
        True,
        True,
        False,
        False,
        True,
    ]


async def test_a_site_that_is_started_again_has_no_new_allowance_and_goes_on_with_its_numbers(line, tmp_path):
    leave = Leave(live=Live(per_hour=3))
    at = At(line, tmp_path, leave)
    at.measure({"loss": 1.0}, {"loss": 2.0})
    assert [point.number for point in await at.sent()] == [0, 1]
    at = At(line, tmp_path, leave)
    at.measure({"loss": 3.0}, {"loss": 4.0})
    at.points.resumed(1)  # the server lacks one of those that were sent
    assert [(point.number, point.values["loss"]) for point in await at.sent()] == [(1, 2.0), (2, 3.0)]
    at.time_s = 10800.0
    at.measure({"loss": 5.0})
    assert [point.number for point in await at.sent()] == [3]


async def test_a_site_whose_file_was_lost_goes_on_where_the_server_is(line, tmp_path):
    at = At(line, tmp_path)
    at.points.resumed(41)
    at.measure({"loss": 1.0})
    assert [point.number for point in await at.sent()] == [41]


async def test_points_wait_in_a_file_of_bounded_size_while_the_server_is_away(line, tmp_path):
    line.connected.clear()
    at = At(line, tmp_path, Leave(live=Live(per_hour=sys.maxsize)))
    at.points.file._most = 5000
    for number in range(1000):
        at.measure({"loss": float(number)})
    assert at.points.file.size <= 5000
    line.connected.set()
    found = [point.values["loss"] for point in await at.sent()]
    assert found == sorted(found)
    assert found[0] < 100
    assert found[-1] == 999.0
