"""The log of a node that `convoy up` started: bounded, whole lines, the newest in the file that people follow."""

import re
import subprocess
import sys

SPEAKS = """
import os, sys, structlog
from pathlib import Path
from convoy.node.rotation import NodeLog
log = NodeLog(Path(sys.argv[1]), most=2000, kept=2)
plain = [structlog.processors.KeyValueRenderer()]
structlog.configure(logger_factory=structlog.PrintLoggerFactory(log), processors=plain)
for number in range(int(sys.argv[2])):
    structlog.get_logger().info("line", number=number)
os.write(2, b"a library writes to standard error\\n")
print("and to standard output", flush=True)
"""


def speak(path, count):
    with path.open("ab") as out:
        subprocess.run([sys.executable, "-c", SPEAKS, path, str(count)], stdout=out, stderr=out, check=True)


def test_a_full_log_is_put_aside_and_the_oldest_goes(tmp_path):
    path = tmp_path / "node.log"
    speak(path, 1000)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["node.log", "node.log.1", "node.log.2"]
    assert all(file.stat().st_size < 2000 + 100 for file in files)
    lines = "".join(file.read_text() for file in reversed(files)).splitlines()
    numbers = [int(found) for found in re.findall(r"number=(\d+)", "\n".join(lines))]
    assert numbers == list(range(numbers[0], 1000))
    assert lines[-2:] == ["a library writes to standard error", "and to standard output"]


def test_a_short_log_is_one_file_and_the_next_process_goes_on_in_it(tmp_path):
    path = tmp_path / "node.log"
    for _ in range(2):
        speak(path, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["node.log"]
    assert path.read_text().count("number=2") == 2


def test_a_file_that_cannot_be_put_aside_goes_on(tmp_path):
    path = tmp_path / "node.log"
    (tmp_path / "node.log.1").mkdir()
    (tmp_path / "node.log.1" / "not empty").touch()
    (tmp_path / "node.log.2").mkdir()
    (tmp_path / "node.log.2" / "not empty").touch()
    speak(path, 200)
    assert path.read_text().count("number=") == 200
