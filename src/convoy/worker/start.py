"""The first lines of every worker: die with the node, then run the worker's own module."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # Linux, prctl(2)


def main() -> None:
    """Tie this process to its node and run `python -m convoy.worker.start MODULE`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ["CONVOY_NODE_PID"]):  # the node died before we could be tied to it
            os._exit(1)
    module = importlib.import_module(sys.argv.pop(1))
    module.main()


if __name__ == "__main__":
    main()
