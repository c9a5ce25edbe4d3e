"""A pod in hostile hands, in a process of its own: it opens its line and says the same without end.

python tests/pods/hostile_pod.py HOST PORT PASS DEED
"""

import asyncio
import os
import sys
from pathlib import Path

from convoy.errors import Unreachable
from convoy.pods.runner import Pass
from convoy.wire import convoy_pb2 as pb
from convoy.wire import pods_pb2
from convoy.wire.dial import Way
from convoy.wire.frames import pack

DEEDS = {
    "life": pods_pb2.PodUp(life=pods_pb2.Life(cpu_s=1.0)),
    "ready": pods_pb2.PodUp(word=pb.WorkerUp(ready=pb.Ready())),
    "failures": pods_pb2.PodUp(word=pb.WorkerUp(failure=pb.Failure(error="no", traceback="no " * 1000))),
    "output": pods_pb2.PodUp(output=b"x" * 1000 + b"\n"),
}


async def main(host, port, folder, deed):
    """Flood the node until it hangs up."""
    os.nice(19)
    stream = await Way(host, int(port), Pass(Path(folder))).dial()
    data = pack(DEEDS[deed]) * 1000
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    try:
        while True:
            await stream.give(memoryview(data))
    except Unreachable:
        stream.close()


asyncio.run(main(*sys.argv[1:]))
