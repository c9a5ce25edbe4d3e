"""A cluster of processes of this machine: a Job is one of them, with its Secret's files in a folder."""

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager

from convoy.pods import launcher as launchers
from convoy.pods.objects import LAUNCH, Home
from convoy.spec.pods import Pods
from convoy.trust.authority import Authority
from convoy.wire import tls
from convoy.wire.door import Door, bound


class Cluster:
    """Stands where `convoy.pods.api.Api` stands, with the same words."""

    def __init__(self, folder):
        self.folder, self.secrets, self.jobs, self.processes = folder, {}, {}, {}
        self.states, self.told, self.faults, self.pending = {}, asyncio.Queue(), [], False
        self.stuck = []  # what the next removals raise
        self.made, self.removed = asyncio.Queue(), asyncio.Queue()  # names of Jobs

    async def create(self, it):
        if self.faults:
            raise self.faults.pop(0)
        name = it["metadata"]["name"]
        if it["kind"] == "Job":
            self.jobs[name] = it
            return f"uid-of-{name}"
        (owner,) = it["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Job", f"uid-of-{name}")
        self.secrets[name] = it
        self.made.put_nowait(name)
        self.tell(name, {"phase": "Pending"})
        if not self.pending:
            await self.start(name)
        return "uid"

    def mount(self, name):
        """Put a Secret's files where its pod finds them; return the pod's folder."""
        home = self.folder / name
        (home / "pass").mkdir(parents=True)
        for file, text in self.secrets[name]["stringData"].items():
            (home / "pass" / file).write_text(text)
        return home

    async def start(self, name):
        """Do what a kubelet does."""
        home = self.mount(name)
        (container,) = self.jobs[name]["spec"]["template"]["spec"]["containers"]
        env = {one["name"]: one["value"] for one in container["env"]}
        env |= {"CONVOY_PASS": str(home / "pass"), "CONVOY_WORK": str(home / "work")}
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH")}
        command = [sys.executable, *container["command"][1:]]
        with (home / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*command, env=kept | env, stderr=log, start_new_session=True)
        self.processes[name] = process
        self.tell(name, {"phase": "Running", "containerStatuses": [{"started": True, "state": {"running": {}}}]})

    def tell(self, name, status, what="MODIFIED"):
        meta = {"name": f"{name}-x", "labels": {LAUNCH: name}, "resourceVersion": "1"}
        it = {"metadata": meta, "status": status}
        self.states[name] = it
        self.told.put_nowait((what, it))

    async def remove(self, kind, name):
        if self.stuck:
            raise self.stuck.pop(0)
        if kind == "Secret":
            self.secrets.pop(name, None)
            return
        if self.jobs.pop(name, None) is None:
            return
        process = self.processes.get(name)
        if process is not None and process.returncode is None:
            process.terminate()
        self.states.pop(name, None)
        self.removed.put_nowait(name)

    async def list(self, kind, _labels):
        return list(self.jobs.values() if kind == "Job" else self.states.values()), "1"

    async def watch(self, _labels, _since):
        while True:
            what, it = await self.told.get()
            if isinstance(it, Exception):
                raise it
            yield what, it

    async def over(self):
        """Wait until every process has left; nothing may be left behind."""
        for process in self.processes.values():
            await process.wait()


@asynccontextmanager
async def launching(folder, pods=None):
    """Give a launcher into such a cluster, and the cluster."""
    made = folder / "authority"
    made.mkdir()
    authority = Authority.create(launchers.REALM, made, now=time.time())
    key, cert = authority.issue("server", "node", now=time.time(), hosts=["127.0.0.1"])
    (made / "node.key").write_bytes(key)
    (made / "node.crt").write_bytes(cert)
    context = tls.server_context(launchers._Files(made / "root.crt", made / "node.crt", made / "node.key"))
    cluster, sock = Cluster(folder / "pods"), bound("127.0.0.1", 0, setting="-")
    home = Home("site-1-0", "uid", f"127.0.0.1:{sock.getsockname()[1]}", "site-1")
    async with asyncio.TaskGroup() as group:
        launcher = launchers.PodLauncher(cluster, home, pods or Pods(image="i"), authority, group, 1 << 20)
        async with Door(sock, lambda: context, launcher.serve, lambda _: None):
            watching = group.create_task(launcher.watch())
            yield launcher, cluster
            watching.cancel()
            launcher.leaving.set()
            for worker in list(launcher.workers.values()):
                await worker.stop(0)
    await cluster.over()
    assert cluster.jobs == cluster.secrets == {}, "something is left in the cluster"
