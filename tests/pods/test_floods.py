"""A pod that floods its node is slowed or cut off: the tasks of other pods go on, and the node's queues stay short.

`make bench-floods` shows how much longer these tasks take than without the flood.
"""

import asyncio
import logging
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from convoy.errors import JobFailed
from convoy.pods.worker import MAX_UPS
from tests.pods.clusters import launching
from tests.pods.test_launcher import Site

TASKS = 40  # of which the median is taken


async def task_s(site, first):
    """Return the median time of a task."""
    model, times = site.model(1, 100), []
    for number in range(first, first + TASKS):
        began = time.monotonic()
        await site.train(model, number)
        times.append(time.monotonic() - began)
    return statistics.median(times)


@pytest.mark.parametrize("deed", ["life", "ready", "failures", "output"])
async def test_beside_a_pod_that_floods_its_node_others_work(tmp_path, deed):
    async with asyncio.TaskGroup() as group, launching(tmp_path) as (launcher, cluster):
        good = Site(tmp_path / "good", launcher, group, {})
        usual = await task_s(good, 1)
        bad = Site(tmp_path / "bad", launcher, group, {})
        bad.trainer.output = lambda data: None
        while not cluster.made.empty():
            cluster.made.get_nowait()
        cluster.pending = True
        training = asyncio.create_task(bad.train(bad.model(1)))
        pod = await cluster.made.get()
        (container,) = cluster.jobs[pod]["spec"]["template"]["spec"]["containers"]
        host, port = container["env"][0]["value"].split(":")
        script = Path(__file__).with_name("hostile_pod.py")
        words = [script, host, port, cluster.mount(pod) / "pass", deed]
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
        assert await process.stdout.readline() == b"begun\n"
        slowed = await task_s(good, TASKS + 1)
        logging.getLogger(__name__).warning("beside the flood a task takes %.2f times its usual time", slowed / usual)
        assert (
            launcher.workers.get(pod) is None or launcher.workers[pod]._ups.qsize() <= MAX_UPS + 2
        )  # and that it is over
        if deed in ("ready", "failures"):  # said once more, it ends the pod
            await process.wait()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        training.cancel()
        with suppress(asyncio.CancelledError, JobFailed):
            await training
        for site in (good, bad):
            await site.trainer.stop()
