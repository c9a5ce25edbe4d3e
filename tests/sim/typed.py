"""`convoy simulate` as a person types it: Ctrl-C reaches it, also where a shell's background processes ignore that."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def typed(folder, *words, **env):
    """Start the command in a folder; return the process."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("convoy"), "simulate", *words],
        cwd=folder,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it starts no thread
    )
