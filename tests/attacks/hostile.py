"""A server that says what it likes: the real certificate, the real TLS, and any answer to each route."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

from convoy.admin import serve
from convoy.cli.main import main

ID = "0123456789abcdef" * 2
JOB = {
    "id": ID,
    "name": "tumours",
    "state": "running",
    "cause": "",
    "submitter": "lead@a.org",
    "org": "a",
    "submitted_at": 1.7e9,
    "started_at": 1.7e9,
    "ended_at": 0,
    "round": 1,
    "rounds": 3,
    "waiting_for": ["site-1"],
    "waiting": 1,
    "metrics": {"loss": 0.5},
    "patience_out": False,
}
OVER = JOB | {"state": "completed", "ended_at": 1.7e9 + 5, "waiting_for": [], "waiting": 0}
ROUND = {
    "round": 1,
    "model": "ab" * 32,
    "metrics": {"loss": 0.5},
    "best": True,
    "took_part": [{"site": "site-1", "weight": 3.0}],
    "left_out": [{"site": "site-2", "reason": "the deadline of 5 s passed"}],
    "committed_at": 1.7e9,
    "took_part_count": 1,
    "left_out_count": 1,
}
SITE = {
    "name": "site-1",
    "org": "a",
    "connected": True,
    "enabled": True,
    "version": "0",
    "seen_at": 1.7e9,
    "revoked_at": 0,
    "cpu": 2,
    "memory": 1 << 30,
    "gpu": 0,
    "jobs": ["tumours"],
}
HONEST = {  # "METHOD path" -> what an honest server answers; a list of one in a tuple: a line each
    "GET /jobs": {"jobs": [JOB], "next": ""},
    "POST /jobs": JOB,
    f"GET /jobs/{ID}": {
        "job": OVER,
        "traceback": "Traceback\n  ...",
        "members": [{"site": "site-1", "state": "ready", "reason": ""}],
        "rounds": [ROUND],
        "spec": {"workflow": "fedavg", "with": {"rounds": 3}},
        "results": ["logs/site-1.log", "model.safetensors"],
    },
    f"GET /jobs/{ID}/rounds": {"rounds": [ROUND], "more": False},
    f"GET /jobs/{ID}/rounds/1": ROUND,
    f"GET /jobs/{ID}/watch": ({"job": OVER, "rounds": [ROUND], "traceback": ""},),
    f"GET /jobs/{ID}/logs": ({"site": "site-1", "text": "round 1"},),
    f"POST /jobs/{ID}/abort": OVER,
    f"DELETE /jobs/{ID}": {},
    f"GET /jobs/{ID}/bundle": b"CONVOYB1",
    f"GET /jobs/{ID}/results/model.safetensors": b"\0" * 64,
    f"GET /jobs/{ID}/results/logs/site-1.log": b"round 1\n",
    "GET /me": {"name": "root@a.org", "org": "a", "role": "project_admin"},
    "GET /status": {
        "project": "clinics",
        "version": "0",
        "started_at": 1.7e9,
        "jobs_running": 1,
        "jobs_waiting": 0,
        "sites_connected": 1,
        "sites_known": 2,
        "problem": "",
        "disk_free": 1 << 40,
        "python": "3.11",
        "platform": "Linux",
        "memory": 1 << 27,
    },
    "GET /problems": [{"site": "server", "text": "warning"}],
    "GET /sites": [SITE],
    "POST /sites/site-1/enable": SITE,
    "POST /sites/site-1/disable": SITE,
    "POST /sites/site-1/revoke": SITE,
    "POST /sites/site-1/restart": {},
    "POST /stop": {},
    "POST /admins/lead@a.org/revoke": {},
    "GET /audit": (
        {
            "record": {
                "seq": 0,
                "at": 1,
                "actor": "server",
                "action": "start",
                "object": "",
                "outcome": "done",
                "prev": "0" * 64,
                "hash": "0" * 64,
            }
        },
    ),
    "GET /login": {"project": "clinics", "nonce": "n" * 43},
    "POST /login": {
        "token": "t" * 43,
        "ends_in_s": 600,
        "person": {"name": "root@a.org", "org": "a", "role": "project_admin"},
        "federation": 0,
    },
}
VERBS = {  # what a person types -> the route whose answer is then the hostile one
    "job list": "GET /jobs",
    "job show tumours": "GET /jobs",
    f"job show {ID}": f"GET /jobs/{ID}",
    f"job watch {ID}": f"GET /jobs/{ID}/watch",
    f"job rounds {ID}": f"GET /jobs/{ID}/rounds",
    f"job rounds {ID} 1": f"GET /jobs/{ID}/rounds/1",
    f"job logs {ID}": f"GET /jobs/{ID}/logs",
    f"job fetch {ID} -o out": f"GET /jobs/{ID}",
    f"job fetch {ID}": f"GET /jobs/{ID}",
    f"job abort {ID}": f"POST /jobs/{ID}/abort",
    f"job delete {ID}": f"GET /jobs/{ID}",
    f"job clone {ID}": f"GET /jobs/{ID}",
    f"job clone {ID} --yes": f"GET /jobs/{ID}/bundle",
    "job submit tumours": "POST /jobs",
    "site list": "GET /sites",
    "site show site-1": "GET /sites",
    "site enable site-1": "POST /sites/site-1/enable",
    "site disable site-1": "POST /sites/site-1/disable",
    "site revoke site-1": "POST /sites/site-1/revoke",
    "kit revoke lead@a.org": "POST /admins/lead@a.org/revoke",
    "status": "GET /status",
    "problems": "GET /problems",
    "restart all": "GET /sites",
    "audit show": "GET /audit",
    "audit save trail": "GET /audit",
    "audit verify": "GET /audit",
    "me": "GET /login",
    "you": "POST /login",
}
ALIAS = {"me": "status", "you": "status"}


@dataclass
class Hostile:
    """Answers as an honest server would, but for the routes in `lies`; remembers what it was asked."""

    lies: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    state: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(closing=asyncio.Event())
    )  # as `serving` wants

    def lie(self, route: str, said: object, status: int = 200) -> None:
        self.lies = {route: (status, said if isinstance(said, bytes) else encoded(said))}

    async def __call__(self, scope, receive, send):
        while (await receive()).get("more_body", False):
            continue
        route = f"{scope['method']} {unquote(scope['path']).removeprefix('/api/v1')}"
        self.asked.append(route)
        status, data = self.lies.get(route) or (200, encoded(HONEST.get(route, {})))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": data})


def encoded(said: object) -> bytes:
    if isinstance(said, bytes):
        return said
    if isinstance(said, tuple):
        return b"".join(json.dumps(line).encode() + b"\n" for line in said)
    return json.dumps(said).encode()


@contextlib.contextmanager
def serving(rest, hostile):
    """Serve the hostile server in a thread for as long as the context lasts."""
    server, up, loop = rest.kit("server"), threading.Event(), asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve_it():
        config = serve.config(
            hostile, host="127.0.0.1", port=rest.port, cert_file=server.cert_file, key_file=server.key_file
        )
        async with serve.serving(config):
            up.set()
            await ending.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve_it(),))
    thread.start()
    up.wait(60)
    try:
        yield hostile
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()


@dataclass
class Said:
    code: int
    out: str
    err: str


def typed(words: list[str], *, here: Path, kit: Path, port: int) -> Said:
    """Run the real command line in this process: a thousand starts of Python would take too long."""
    out, err = io.StringIO(), io.StringIO()
    before, argv, env = Path.cwd(), sys.argv, dict(os.environ)
    sys.argv = ["convoy", *words]
    os.environ |= {"CONVOY_KIT": str(kit), "CONVOY_SERVER": f"localhost:{port}", "HOME": str(here / "home")}
    os.chdir(here)
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ |= env
        sys.argv = argv
    return Said(code, out.getvalue(), err.getvalue())


RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def check(said: Said, codes: set[int]) -> None:
    """Fail unless it ended in plain words."""
    assert said.code in codes, said
    assert "Traceback" not in said.err, said.err
    assert RAW.search(said.out + said.err) is None, said
    if said.code:
        lines = said.err.splitlines()
        assert 1 <= len(lines) <= 3, said.err
        assert lines[0].startswith("error: "), said.err
        assert all(line.startswith(("  why: ", "  fix: ")) for line in lines[1:]), said.err
