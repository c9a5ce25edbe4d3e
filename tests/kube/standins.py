"""What a bare Kubernetes lacks, for tests: names of Services (DNS), and volumes for claims of the class `standard`.

KUBECONFIG=… python tests/kube/standins.py STATE ADDRESS
"""

import asyncio
import json
import socket
import struct
import sys
from pathlib import Path

import local_cluster

from convoy.errors import ConvoyError
from convoy.kube.cluster import connect

NODES = [f"n{number}" for number in range(1, local_cluster.NODES + 1)]
CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "convoy.test/folders",
    "volumeBindingMode": "WaitForFirstConsumer",
}


async def create(api, version, url, body):
    async with api.call_api("POST", version=version, url=url, content=json.dumps(body), raise_for_status=False):
        pass


class Names(asyncio.DatagramProtocol):
    """Answers for SERVICE.NAMESPACE.svc.cluster.local, each by one question to the API server."""

    def __init__(self, api):
        self.api, self.tasks = api, set()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        task = asyncio.ensure_future(self.answer(data, addr))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def answer(self, data, addr):
        at, labels = 12, []
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode().lower())
            at += data[at] + 1
        kind = struct.unpack(">H", data[at + 1 : at + 3])[0]
        ip = await self.find(labels) if labels[2:] == ["svc", "cluster", "local"] else None
        found = [ip] if ip and kind == 1 else []
        head = data[:2] + struct.pack(">HHHHH", 0x8580 if ip else 0x8583, 1, len(found), 0, 0)
        records = b"".join(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04" + socket.inet_aton(one) for one in found)
        self.transport.sendto(head + data[12 : at + 5] + records, addr)

    async def find(self, labels):
        url = f"services/{labels[0]}"
        async with self.api.call_api(
            "GET", version="v1", namespace=labels[1], url=url, raise_for_status=False
        ) as answer:
            return answer.json().get("spec", {}).get("clusterIP")


async def provision(cluster, state):
    """Give each claim that has a node a folder, for ever; it follows its pod, as a cloud's disk does in its zone."""
    while True:
        try:
            async for what, it in cluster.changes("PersistentVolumeClaim", ""):
                node = it.get("metadata", {}).get("annotations", {}).get("volume.kubernetes.io/selected-node")
                if what != "DELETED" and node and not it["spec"].get("volumeName"):
                    await create(cluster.api, "v1", "persistentvolumes", volume(it, node, state))
        except ConvoyError as problem:
            print(problem, flush=True)


def volume(claim, node, state):
    meta, spec = claim["metadata"], claim["spec"]
    folder = Path(state) / node / "volumes" / meta["uid"]
    folder.mkdir(parents=True, exist_ok=True)
    here = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": NODES}]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{meta['uid']}"},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "standard",
            "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "uid": meta["uid"],
                         "name": meta["name"], "namespace": meta["namespace"]},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": here}},
        },
    }  # fmt: skip


async def main(state, address):
    async with connect() as cluster:
        await create(cluster.api, "storage.k8s.io/v1", "storageclasses", CLASS)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: Names(cluster.api), local_addr=(address, 53))
        await provision(cluster, state)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
