"""Typing a command: the real one, as a process."""

import asyncio
import os
import sys
from dataclasses import dataclass


@dataclass
class Said:
    code: int
    out: str
    err: str


async def typed(*words, cwd, stdin="", env=None):
    """Run `convoy WORDS` and return what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "convoy.cli.main",
        *map(str, words),
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if not key.startswith("CONVOY_")} | (env or {}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    return Said(process.returncode, out.decode(), err.decode())
