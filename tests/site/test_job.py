"""One job at a site: what the server says late."""

import shutil

import numpy as np

from convoy.control.records import JobId, Question
from convoy.site.job import SiteJob
from convoy.site.task import SiteTask
from convoy.store import arrays
from convoy.wire import convoy_pb2 as pb
from tests.fuzz import nodes
from tests.fuzz.targets import JOB


async def test_a_commit_or_a_refusal_that_comes_after_the_end_of_a_job_is_no_fault_of_the_site():
    job = SiteJob(nodes.site().site, JOB, None)
    job.stop()
    shutil.rmtree(job.folder)
    await job.committed(pb.Committed(job=JOB, round=1))
    await job.rejected("1.0", "late")
    assert not job.folder.exists()


async def test_the_state_that_a_waiting_task_goes_on_from_stays_when_a_later_one_counts():
    job = SiteJob(nodes.site().site, JOB, None)
    states = {name: arrays.save(job.blobs, f"state.{name}", {"w": np.full(9, float(name))}) for name in ("1.0", "2.0")}
    job.give(SiteTask(Question(JobId(JOB), "2.1", 2, "evaluate", "m" * 64), pb.Blob(), after="1.0"))
    await job.committed(pb.Committed(job=JOB, round=2, after="2.0"))
    assert job.blobs.digests() == {*states.values()}
    await job.cancel("2.1")
    await job.committed(pb.Committed(job=JOB, round=2, after="2.0"))
    assert job.blobs.digests() == {states["2.0"]}


async def test_artifacts_of_an_earlier_process_stay_at_a_site_that_hears_at_its_start_that_the_job_is_over():
    site = nodes.site().site
    left = site.folder / "jobs" / JOB / "code" / "artifacts" / "log.txt"
    left.parent.mkdir(parents=True)
    left.write_text("round 1")
    site.settings.artifacts = 1 << 20
    job = SiteJob(site, JOB, None)
    job.stop()
    await job.run()
    assert not job.folder.exists()
    assert (site.folder / "artifacts" / JOB / "log.txt").read_text() == "round 1"
