"""A real MLflow server on this machine, in a virtual environment of its own: it wants other versions than our tests."""

import fcntl
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

VERSION = "3.17.2"
HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convoy-tests"
READY = re.compile("Uvicorn running")  # its port is open


def program() -> Path:
    """Return the `mlflow` of the environment, which the first test that needs it makes."""
    folder, mark = HOME / f"mlflow-{VERSION}", HOME / f"mlflow-{VERSION}.whole"
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([folder / "bin" / "pip", "install", "-q", f"mlflow=={VERSION}"], check=True)
            mark.touch()
    return folder / "bin" / "mlflow"


@dataclass
class MLflowServer:
    """One server with a database in a folder; it may be killed and started again."""

    folder: Path
    port: int
    _process: subprocess.Popen | None = None
    log: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "MLflowServer":
        """Start it, and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        ours, theirs = os.pipe()
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        stores = [f"--backend-store-uri=sqlite:///{self.folder}/mlflow.db", f"--artifacts-destination={self.folder}/a"]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
        env |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # nine more processes, for evaluations
        command = [program(), *words, *stores]
        self._process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
        os.close(theirs)
        with os.fdopen(ours, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self.log.append(line)
                if READY.search(line):
                    break
            else:
                raise AssertionError("".join(self.log[-40:]))
            os.set_blocking(lines.fileno(), False)
            self._rest = os.dup(lines.fileno())  # so that its next words do not break a pipe
        return self

    def is_running(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """kill -9 for it and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None
            os.close(self._rest)


if __name__ == "__main__":  # `make test` does it before the tests, whose time is limited
    program()
