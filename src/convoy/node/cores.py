"""Environment variables of processes that share the cores of one machine."""

from __future__ import annotations

import os
from typing import Final

POLICY: Final = "OMP_WAIT_POLICY"  # of OpenMP, which torch, scikit-learn and others compute with
TIMEOUT: Final = "OPENBLAS_THREAD_TIMEOUT"  # of OpenBLAS, which numpy computes with: 2 to this power of cycles


def shared() -> dict[str, str]:
    """Return the variables: threads that wait for each other sleep, unless this process's environment says otherwise.

    By default such threads spin. Where several processes have a thread for each core, they then take the cores from
    those that compute: two simulated sites with a transformer took 174 s in place of 32 s on two cores. How many
    threads there are, and so each bit of the results, stays as it is.
    """
    return {POLICY: os.environ.get(POLICY, "PASSIVE"), **brief()}


def brief() -> dict[str, str]:
    """Return the variable with which numpy's threads spin for a third of a millisecond, and then sleep.

    By default they spin for some 25 ms, first when numpy is imported and nothing is computed: 0.1 s of processor time
    at each start of a process on two cores, and more on machines with more of them. Computations are as fast.
    """
    return {TIMEOUT: os.environ.get(TIMEOUT, "20")}
