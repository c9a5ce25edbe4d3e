"""One job at a site: what the server says late."""

import shutil

from convoy.site.job import SiteJob
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
