"""The shell scripts in a kit, in POSIX sh: they find their own folder and call `convoy`."""

from __future__ import annotations

from typing import Final

_HEAD: Final = """\
#!/bin/sh
# {label}
set -eu
kit=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
"""

_FIND: Final = """\
if ! command -v convoy >/dev/null 2>&1; then
    echo "convoy is not installed here, or not on the PATH" >&2
    echo "pip install convoy-fl, or activate the environment that has it" >&2
    exit 127
fi
"""

_STOP: Final = """\
file=$kit/work/node.pid
if [ ! -r "$file" ]; then
    echo "not running: there is no $file" >&2
    exit 1
fi
pid=$(head -n 1 -- "$file")
case $pid in
    '' | *[!0-9]*)
        echo "not a process id in $file: '$pid'" >&2
        exit 1
        ;;
esac
if ! kill -0 "$pid" 2>/dev/null; then
    echo "not running: process $pid of $file is gone" >&2
    exit 1
fi
if [ -r "/proc/$pid/cmdline" ]; then
    runs=$(tr '\\0' ' ' <"/proc/$pid/cmdline")
else
    runs=$(ps -p "$pid" -o args=)
fi
case $runs in
    *convoy*) ;;
    *)
        echo "not running: process $pid of $file is another program by now: $runs" >&2
        exit 1
        ;;
esac
kill -TERM "$pid"
echo "asked process $pid to drain; it leaves within 30 s"
"""


def start(kind: str) -> str:
    """Return start.sh of a server or a site."""
    head = _HEAD.format(label=f"Starts this {kind} in the foreground; Ctrl-C or stop.sh drains it.")
    return head + _FIND + 'exec convoy run "$kit" "$@"\n'


def stop(kind: str) -> str:
    """Return stop.sh of a server or a site."""
    return _HEAD.format(label=f"Asks this {kind} to finish its current work and stop (SIGTERM).") + _STOP


def console() -> str:
    """Return an admin's fl_admin.sh."""
    head = _HEAD.format(label="Opens the console of this admin: submit_job, list_jobs, check_status, help, bye.")
    return head + _FIND + 'exec convoy console --kit "$kit" "$@"\n'
