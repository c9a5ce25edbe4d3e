"""A server takes a package of artifacts within its bounds, and from who is asked for it."""

from types import SimpleNamespace

import pytest

from convoy.control.records import Job, JobId, Member, SiteName
from convoy.control.state import Keeping, LiveJob, State, Stopping, Working
from convoy.errors import NotAllowed, Refused, StorageFull
from convoy.server.artifacts import Artifacts
from convoy.server.files import Workspace
from convoy.server.start import NOTHING
from convoy.wire import convoy_pb2 as pb

JOB, SITE = JobId("a" * 32), SiteName("site-1")
HEAD = pb.ArtifactsHead(job=JOB, digest="0" * 64, size=1000)


@pytest.fixture
def world(tmp_path):
    """A server that ends a job of two sites."""
    record = Job(JOB, "n", "ada", "org", "b" * 64, 1, "{}", "ending", "", 1.0)
    job = LiveJob(record, NOTHING)
    job.phase = Stopping(9.0)
    for site in (SITE, SiteName("site-2")):
        job.members[site] = Member(JOB, site, "ready")
    free = [1 << 30]
    made = Artifacts(State(4, {}, {JOB: job}), Workspace(tmp_path), SimpleNamespace(), 2000, lambda: free[0])
    return SimpleNamespace(artifacts=made, job=job, free=free)


def test_a_package_is_taken_within_the_part_of_its_site(world):
    world.artifacts.take(SITE, HEAD, SimpleNamespace()).close()
    with pytest.raises(Refused, match="of each of its 2 sites the server takes 1000"):
        world.artifacts.take(SiteName("site-2"), pb.ArtifactsHead(job=JOB, size=1001), SimpleNamespace())


def test_a_package_that_the_disk_has_no_room_for_is_refused_before_a_byte_moves(world):
    world.free[0] = 3000
    world.artifacts.take(SITE, HEAD, SimpleNamespace()).close()
    with pytest.raises(StorageFull):
        world.artifacts.take(SiteName("site-2"), HEAD, SimpleNamespace())


@pytest.mark.parametrize("lost", ["unknown job", "another site", "stopped", "running", "keeping", "twice"])
def test_a_package_that_nobody_waits_for_is_refused(world, lost):
    head, site = HEAD, SITE
    match lost:
        case "unknown job":
            head = pb.ArtifactsHead(job="../jobs", size=1)
        case "another site":
            site = SiteName("site-9")
        case "stopped":
            world.job.members[SITE] = Member(JOB, SITE, "ended")
        case "running":
            world.job.record = Job(JOB, "n", "ada", "org", "b" * 64, 1, "{}", "running", "", 1.0)
            world.job.phase = Working()
        case "keeping":
            world.job.phase = Keeping()
        case "twice":
            world.artifacts.take(SITE, HEAD, SimpleNamespace()).close()
    with pytest.raises(NotAllowed):
        world.artifacts.take(site, head, SimpleNamespace())
