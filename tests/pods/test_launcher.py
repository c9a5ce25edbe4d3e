"""Workers in pods, as real processes over real TLS: what a site's trainer and a server's workflow do there."""

import asyncio
import json
import os
import select
import shutil

import numpy as np
import pytest

from convoy.errors import JobFailed, NotAllowed, Refused, Unreachable
from convoy.node.launcher import Order
from convoy.pods import worker as workers
from convoy.pods.api import Gone
from convoy.pods.objects import LAUNCH
from convoy.pods.runner import Pass
from convoy.site.trainer import Trainer
from convoy.store import arrays
from convoy.store.blobs import HANDED, BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import pods_pb2
from convoy.wire.dial import Way
from tests.pods.clusters import launching

CODE = """
import os
import pathlib

import convoy
from lib.more import ADD

@convoy.train
def train(task):
    print("round", task.round, flush=True)
    convoy.metrics({"loss": 0.5}, step=task.round)
    if "gate" in task.data:
        open(task.data["gate"]).read()
    if "leave" in task.settings:
        for name, size in task.settings["leave"].items():
            path = pathlib.Path("artifacts") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(size))
        os.symlink("/etc/passwd", "artifacts/link")
    keep = {"n": task.state.get("n", 0 * task.model["w"]) + 1} if task.settings.get("keep") else None
    return convoy.Reply({"w": task.model["w"] + ADD}, weight=7, metrics={"round": task.round}, state=keep)
"""
JOB = "ab" * 16


class Site:
    """A job's folder at a site, and a trainer for it."""

    def __init__(self, folder, launcher, group, data):
        self.code = code = folder / "code"
        (code / "lib").mkdir(parents=True)
        (code / "train.py").write_text(CODE)
        (code / "lib" / "more.py").write_text("ADD = 2\n")
        (code / "lib" / "__init__.py").touch()
        (folder / "blobs").mkdir()
        self.blobs, self.printed, self.waits, self.ready = (
            BlobFolder(folder / "blobs"),
            b"",
            asyncio.Queue(),
            asyncio.Event(),
        )
        begin = pb.BeginTrainer(job=JOB, name="n", site="s", code=str(code), blobs=str(folder / "blobs"))
        begin.out = str(folder / "out")
        begin.trainer, begin.config_json, begin.data_json = "train.py", "{}", json.dumps(data)
        order = Order("convoy.worker.trainer", pb.WorkerDown(trainer=begin), code, {"MORE": "1"})
        self.points = []
        self.trainer = Trainer(
            order,
            launcher,
            group,
            self.hear,
            self.waits.put_nowait,
            self.ready.set,
            self.points.append,
            lambda: None,
            pulse_s=60,
        )

    def hear(self, data):
        self.printed += data

    def model(self, value, size=100_000):
        return arrays.save(self.blobs, "test", {"w": np.full(size, value, np.float32)})

    async def train(self, digest, round_=1, settings="{}", **more):
        question = pb.Question(id=f"{round_}.0", kind="train", round=round_, model=digest, settings=settings)
        said = await self.trainer.train(pb.Task(job=JOB, question=question, **more))
        for name, whole in said.wholes.items():  # as its site does
            self.blobs.put(HANDED, whole, expect=name)
        return said


def unread(pipe):
    """Return when nobody reads a pipe any more: a trainer ends a moment after the pod that was killed around it."""
    poll = select.poll()
    poll.register(pipe, 0)  # POLLERR is always told
    poll.poll()


@pytest.fixture
async def away(tmp_path):
    """Make a site whose trainer runs in a pod; everything is gone at the end."""
    async with asyncio.TaskGroup() as group, launching(tmp_path) as (launcher, cluster):
        made = []

        def make(**data):
            made.append(Site(tmp_path / f"site-{len(made)}", launcher, group, data))
            return made[-1], cluster

        yield make
        for site in made:
            await site.trainer.stop()


@pytest.mark.parametrize("size", [100, 1_000_000], ids=["a small model", "a large model"])
async def test_a_trainer_in_a_pod_trains_as_it_does_at_home(away, size):
    site, _ = away()
    said = await site.train(site.model(1, size))
    assert said.answer.weight == 7
    np.testing.assert_array_equal(arrays.load(site.blobs, said.answer.digest)["w"], np.full(size, 3, np.float32))
    assert site.blobs.verify(said.answer.digest)
    assert site.ready.is_set()
    assert b"round 1" in site.printed
    assert [(one.step, dict(one.values)) for said in site.points for one in said.points] == [(1, {"loss": 0.5})]


@pytest.mark.parametrize("size", [100, 1_000_000], ids=["a small state", "a large state"])
async def test_a_state_goes_to_a_pod_with_the_task_and_comes_back_with_the_answer(away, size):
    site, _ = away()
    how = {"settings": '{"keep": 1}', "state_bytes": 1 << 30}
    first = await site.train(site.model(1, size), **how)
    second = await site.train(site.model(2, size), 2, state=first.answer.state, **how)
    for said, count in ((first, 1), (second, 2)):
        np.testing.assert_array_equal(arrays.load(site.blobs, said.answer.state)["n"], np.full(size, count, np.float32))
    refused = await site.train(site.model(3, size), 3, settings='{"keep": 1}', state_bytes=8)
    assert "this site allows 8" in refused.failed.error


async def test_what_a_trainer_leaves_in_artifacts_comes_to_its_site_up_to_the_sites_limit(away):
    site, _ = away()
    sizes = {"a/model.bin": 300_000, "b.bin": 2 << 20, "c.txt": 0, "d.bin": 1 << 16}
    said = await site.train(site.model(1), settings=json.dumps({"leave": sizes}))
    assert said.answer.weight == 7
    assert await site.trainer.stop(30) == ""
    folder = site.code / "artifacts"
    found = {str(it.relative_to(folder)): it.stat().st_size for it in folder.rglob("*") if it.is_file()}
    assert found == {name: size for name, size in sizes.items() if name != "b.bin"}  # 1 MiB is the limit of this node
    assert b"1 files of artifacts/ did not come from the pod" in site.printed


@pytest.mark.parametrize(
    "sent",
    [
        ("../../outside",),
        ("/etc/outside",),
        (".ssh/config",),
        ("a.part",),
        ("a", "a/b"),
        ("a/b", "a"),
    ],
    ids=str,
)
async def test_a_pod_that_sends_artifacts_under_other_names_writes_nothing_there_and_the_others_come(away, sent):
    site, cluster = away()
    cluster.pending = True
    training = asyncio.create_task(site.train(site.model(1)))
    stream = await called(cluster, await cluster.made.get())
    before = {it for it in site.code.parent.parent.rglob("*") if "pods" not in it.parts}
    for path in (*sent, "last"):
        await stream.write(pods_pb2.PodUp(artifact=pods_pb2.Piece(path=path, data=b"x", last=True)))
    await stream.write(pods_pb2.PodUp(ended=pods_pb2.Ended(how="exit code 1")))
    for _ in range(2):
        cluster.tell(await cluster.made.get(), {"phase": "Failed", "reason": "Evicted"})
    with pytest.raises(JobFailed):
        await training
    after = {it for it in site.code.parent.parent.rglob("*") if "pods" not in it.parts}
    mine = site.code / "artifacts"
    assert {it for it in after - before if it != mine and not it.is_relative_to(mine)} == set()
    files = {it.relative_to(mine).as_posix() for it in mine.rglob("*") if it.is_file()}
    assert files == {*sent[: len(sent) - 1], "last"}
    assert b"1 files of artifacts/ did not come from the pod" in site.printed
    stream.close()


async def test_it_stays_from_task_to_task_and_drops_what_its_node_drops(away, tmp_path):
    site, cluster = away()
    first = site.model(1)
    update = (await site.train(first)).answer.digest
    await asyncio.to_thread(site.blobs.release, "test", first)
    site.blobs.release(HANDED, update)
    second = site.model(5)
    last = (await site.train(second, 2)).answer.digest
    assert len(cluster.processes) == 1
    (pod,) = cluster.processes
    assert BlobFolder(tmp_path / "pods" / pod / "work" / "blobs").digests() == {second, last}


async def test_a_pod_that_is_killed_in_a_task_is_made_again_and_the_task_answered(away, tmp_path):
    os.mkfifo(tmp_path / "gate")
    site, cluster = away(gate=str(tmp_path / "gate"))
    training = asyncio.create_task(site.train(site.model(1)))
    gate = await asyncio.to_thread((tmp_path / "gate").open, "w")
    (pod,) = cluster.processes
    cluster.processes[pod].kill()
    await cluster.processes[pod].wait()
    await asyncio.to_thread(unread, gate)
    gate.close()
    again = await asyncio.to_thread((tmp_path / "gate").open, "w")
    again.close()
    assert (await training).answer.weight == 7
    assert len(cluster.processes) == 2


async def test_a_pod_that_is_evicted_in_a_task_is_made_again(away, tmp_path):
    os.mkfifo(tmp_path / "gate")
    site, cluster = away(gate=str(tmp_path / "gate"))
    training = asyncio.create_task(site.train(site.model(1)))
    gate = await asyncio.to_thread((tmp_path / "gate").open, "w")
    (pod,) = cluster.processes
    cluster.tell(pod, {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"})
    await cluster.processes[pod].wait()
    await asyncio.to_thread(unread, gate)
    gate.close()
    again = await asyncio.to_thread((tmp_path / "gate").open, "w")
    again.close()
    assert (await training).answer.weight == 7
    assert len(cluster.processes) == 2


async def test_a_pod_that_keeps_being_evicted_fails_the_task_with_the_clusters_words(away):
    site, cluster = away()
    cluster.pending = True

    async def evict():
        for _ in range(3):
            cluster.tell(await cluster.made.get(), {"phase": "Failed", "reason": "Evicted", "message": "no memory"})
            await cluster.removed.get()

    evicting = asyncio.create_task(evict())
    with pytest.raises(JobFailed) as failed:
        await site.train(site.model(1))
    assert failed.value.why == "its pod was ended: Evicted: no memory"
    await evicting


async def test_what_a_pod_waits_for_is_told_in_words_and_nothing_once_it_has_called(away):
    site, cluster = away()
    cluster.pending = True
    training = asyncio.create_task(site.train(site.model(1)))
    pod = await cluster.made.get()
    lacks = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes: 2 Insufficient nvidia.com/gpu."}
    cluster.tell(pod, {"phase": "Pending", "conditions": [lacks]})
    assert (await site.waits.get()).startswith("its pod is not made yet")
    while "no node has enough nvidia.com/gpu" not in await site.waits.get():
        pass
    await cluster.start(pod)
    while await site.waits.get():
        pass
    await training


async def test_a_credential_is_good_once(away, tmp_path):
    site, cluster = away()
    await site.train(site.model(1))
    (pod,) = cluster.processes
    (home,) = {it["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] for it in cluster.jobs.values()}
    host, port = home.split(":")
    stream = await Way(host, int(port), Pass(tmp_path / "pods" / pod / "pass")).dial()
    assert await stream.read(pods_pb2.PodDown) is None, "the node hangs up"
    stream.close()
    assert (await site.train(site.model(2), 2)).answer.weight == 7, "and the worker is not disturbed"


async def test_a_credential_is_good_for_its_time_alone(away, monkeypatch):
    monkeypatch.setattr(workers, "CREDENTIAL_S", 0.05)
    site, cluster = away()
    cluster.pending = True
    with pytest.raises(JobFailed) as failed:
        await site.train(site.model(1))
    assert "did not connect within" in failed.value.why


async def test_an_api_server_that_is_not_there_for_a_while_costs_nothing_but_time(away):
    site, cluster = away()
    cluster.faults = [Unreachable("the API server is not there")] * 2
    assert (await site.train(site.model(1))).answer.weight == 7
    assert "the API server is not there" in await site.waits.get()


async def test_a_pod_that_sends_other_bytes_for_a_model_changes_nothing_at_its_node(away):
    site, cluster = away()
    cluster.pending = True
    model, update = site.model(1), site.model(2)
    kept, false = site.blobs.path(model).read_bytes(), site.blobs.read_header(update)
    site.blobs.release("test", update)
    training = asyncio.create_task(site.train(model))
    stream = await called(cluster, await cluster.made.get())
    for digest, header in ((model, site.blobs.read_header(model).header), (update, false.header)):
        said = pb.Blob(digest=digest, size=false.size, header=header)
        await stream.write(pods_pb2.PodUp(blob=said))
        await stream.give(memoryview(bytes(false.size - len(header))))
    for _ in range(2):
        cluster.tell(await cluster.made.get(), {"phase": "Failed", "reason": "Evicted"})
    with pytest.raises(JobFailed):
        await training
    assert site.blobs.path(model).read_bytes() == kept
    assert site.blobs.digests() == {model}
    stream.close()


@pytest.mark.parametrize(
    "sizes", [(300_000,), (1_000, 2_000, 3_000)], ids=["a blob too large for an answer", "more than an answer names"]
)
async def test_a_pod_that_sends_more_than_its_answer_is_not_listened_to(away, sizes):
    site, cluster = away()
    cluster.pending = True
    model = site.model(1)
    training = asyncio.create_task(site.train(model))
    stream = await called(cluster, await cluster.made.get())
    for size in sizes:
        digest = site.model(2, size)
        whole = site.blobs.path(digest).read_bytes()
        site.blobs.release("test", digest)
        await stream.write(pods_pb2.PodUp(blob=pb.Blob(digest=digest, size=len(whole), whole=whole[: 60 << 10])))
    for _ in range(2):
        cluster.tell(await cluster.made.get(), {"phase": "Failed", "reason": "Evicted"})
    with pytest.raises(JobFailed):
        await training
    assert site.blobs.digests() == {model}
    stream.close()


async def test_a_node_that_cannot_keep_what_its_pod_sends_goes_on_without_that_pod(away, tmp_path):
    os.mkfifo(tmp_path / "gate")
    site, cluster = away(gate=str(tmp_path / "gate"))
    training = asyncio.create_task(site.train(site.model(1)))
    gate = await asyncio.to_thread((tmp_path / "gate").open, "w")
    shutil.rmtree(site.blobs.folder)
    (tmp_path / "gate").unlink()
    (tmp_path / "gate").touch()
    gate.close()
    said = await training
    assert "is not here" in said.failed.error, "the next pod is not given the model any more"
    assert len(cluster.processes) == 2


async def called(cluster, pod):
    """Return the line that a pod would open."""
    (container,) = cluster.jobs[pod]["spec"]["template"]["spec"]["containers"]
    host, port = container["env"][0]["value"].split(":")
    return await Way(host, int(port), Pass(cluster.mount(pod) / "pass")).dial()


@pytest.mark.parametrize("problem", [NotAllowed("no"), Refused("no"), Gone("long ago"), Unreachable("away")])
async def test_whatever_the_api_server_says_to_a_watch_the_node_and_its_workers_go_on(away, problem):
    site, cluster = away()
    cluster.told.put_nowait(("", problem))
    assert (await site.train(site.model(1))).answer.weight == 7
    (pod,) = cluster.processes
    cluster.tell(pod, {"phase": "Failed", "reason": "Evicted"})
    assert (await site.train(site.model(2), 2)).answer.weight == 7, "what comes after the fault is heard"
    assert len(cluster.processes) == 2


FOUL = {
    "no metadata": {},
    "metadata that is a list": {"metadata": []},
    "labels that are a text": {"metadata": {"resourceVersion": "1", "labels": "x"}},
    "a status that is a number": {"status": 3},
    "states that are texts": {"status": {"phase": "Failed", "containerStatuses": ["x"], "conditions": "x"}},
}


@pytest.mark.parametrize("said", FOUL)
async def test_whatever_the_api_server_shows_of_a_pod_the_node_and_its_workers_go_on(away, said):
    site, cluster = away()
    assert (await site.train(site.model(1))).answer.weight == 7
    (pod,) = cluster.processes
    meta = {"resourceVersion": "1", "labels": {LAUNCH: pod}}
    cluster.told.put_nowait(("MODIFIED", {"metadata": meta, **FOUL[said]}))
    cluster.tell(pod, {"phase": "Failed", "reason": "Evicted"})
    assert await cluster.removed.get() == pod, "what comes after the fault is heard"
    assert (await site.train(site.model(2), 2)).answer.weight == 7
    assert len(cluster.processes) == 2


async def test_a_pod_that_cannot_be_removed_ends_nothing_else(away):
    site, cluster = away()
    assert (await site.train(site.model(1))).answer.weight == 7
    cluster.stuck = [NotAllowed("no")]
    (pod,) = cluster.processes
    cluster.tell(pod, {"phase": "Failed", "reason": "Evicted"})
    assert (await site.train(site.model(2), 2)).answer.weight == 7
    await cluster.remove("Job", pod)
    await cluster.remove("Secret", pod)


async def test_a_task_that_is_cancelled_while_its_pod_is_awaited_does_not_end_the_pod(away):
    site, cluster = away()
    cluster.pending = True
    training = asyncio.create_task(site.train(site.model(1)))
    pod = await cluster.made.get()
    await site.trainer.cancel()
    assert (await training).failed.error == "its answer is not needed any more"
    second = asyncio.create_task(site.train(site.model(2), 2))
    await cluster.start(pod)
    assert (await second).answer.question == "2.0"
    assert len(cluster.processes) == 1
    assert b"round 1" not in site.printed


async def test_a_task_that_is_cancelled_is_given_to_nobody_and_the_next_one_once(away, tmp_path):
    os.mkfifo(tmp_path / "gate")
    site, cluster = away(gate=str(tmp_path / "gate"))
    training = asyncio.create_task(site.train(site.model(1)))
    gate = await asyncio.to_thread((tmp_path / "gate").open, "w")
    cancelling = asyncio.create_task(site.trainer.cancel())
    assert (await training).failed.error == "its answer is not needed any more"
    second = asyncio.create_task(site.train(site.model(2), 2))
    (tmp_path / "gate").unlink()
    (tmp_path / "gate").touch()
    assert (await second).answer.question == "2.0"
    await cancelling
    gate.close()
    assert site.printed.count(b"round 2") == 1
    assert len(cluster.processes) == 2


async def test_a_stop_before_the_pod_has_come_leaves_nothing(away):
    site, cluster = away()
    cluster.pending = True
    await site.trainer.start()
    await cluster.made.get()
    await site.trainer.stop()


async def test_a_workflow_in_a_pod_commits_what_it_makes(tmp_path):
    code, blobs = tmp_path / "code", tmp_path / "blobs"
    code.mkdir()
    blobs.mkdir()
    flow = "async def run(fleet):\n    async for turn in fleet.rounds(1):\n        await turn.commit(turn.model)\n"
    (code / "flow.py").write_text(flow)
    (code / "train.py").write_text(
        "import numpy as np\ndef initial():\n    return {'w': np.ones(50_000, np.float32)}\n"
    )
    begin = pb.BeginFlow(job=JOB, name="n", code=str(code), blobs=str(blobs), out=str(tmp_path / "out"), committed=-1)
    begin.workflow, begin.model = "flow.py:run", "train.py:initial"
    printed = []
    async with launching(tmp_path) as (launcher, _):
        order = Order("convoy.worker.flow", pb.WorkerDown(flow=begin), code, {})
        worker = await launcher.launch(order, printed.append, lambda _: None)
        for number in (0, 1):
            up = await worker.receive()
            assert up.WhichOneof("it") == "commit", printed
            assert up.commit.round == number
            assert BlobFolder(blobs).verify(up.commit.model)
            worker.send(pb.WorkerDown(committed=pb.Committed(job=JOB, round=number)))
        assert (await worker.receive()).WhichOneof("it") == "done"
        assert await worker.receive() is None
        assert await worker.ended() == ""


async def test_a_workflow_in_a_pod_that_goes_on_knows_a_history_of_many_pages(tmp_path):
    code, blobs, last, page = tmp_path / "code", BlobFolder(tmp_path / "blobs"), 6_000, 500
    code.mkdir()
    blobs.folder.mkdir()
    flow = (
        "async def run(fleet):\n    async for turn in fleet.rounds(6001):\n"
        "        known = sum(done['metrics']['m' * 500 + '0'] for done in fleet.history)\n"
        "        await turn.commit(turn.model, metrics={'known': known})\n"
    )
    (code / "flow.py").write_text(flow)
    begin = pb.BeginFlow(job=JOB, name="n", code=str(code), blobs=str(blobs.folder), out=str(tmp_path / "out"))
    begin.workflow, begin.committed = "flow.py:run", last
    begin.committed_model = arrays.save(blobs, "test", {"w": np.ones(3, np.float32)})
    metrics = {"m" * 500 + str(number): 1.0 for number in range(5)}
    printed, pages = [], 0
    async with launching(tmp_path) as (launcher, _):
        order = Order("convoy.worker.flow", pb.WorkerDown(flow=begin), code, {})
        worker = await launcher.launch(order, printed.append, lambda _: None)
        while (up := await worker.receive()).WhichOneof("it") == "history":
            numbers = range(up.history.after + 1, min(up.history.after + 1 + page, last + 1))
            rounds = [pb.PastRound(round=number, metrics=metrics) for number in numbers]
            worker.send(pb.WorkerDown(history=pb.History(rounds=rounds)))
            pages += 1
        assert (up.commit.round, dict(up.commit.metrics)) == (last + 1, {"known": last + 1}), printed
        assert pages == -(-(last + 1) // page)
        worker.send(pb.WorkerDown(committed=pb.Committed(job=JOB, round=last + 1)))
        assert (await worker.receive()).WhichOneof("it") == "done"


async def test_the_worker_is_ended_when_its_node_is_gone(away, tmp_path):
    os.mkfifo(tmp_path / "gate")
    site, cluster = away(gate=str(tmp_path / "gate"))
    training = asyncio.create_task(site.train(site.model(1)))
    gate = await asyncio.to_thread((tmp_path / "gate").open, "w")
    (pod,) = cluster.processes
    training.cancel()
    await site.trainer.stop()
    await cluster.processes[pod].wait()
    with pytest.raises(BrokenPipeError):
        os.write(gate.fileno(), b"nobody reads any more")
    gate.close()
