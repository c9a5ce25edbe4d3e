"""Somebody with a good kit and bad intentions, in a process of its own: floods a server's REST API until it is ended.

python tests/attacks/hostile_person.py KIT PORT DEED [JOB]
"""

import asyncio
import json
import os
import ssl
import sys
from contextlib import suppress
from pathlib import Path

from convoy.admin import link
from convoy.errors import ConvoyError
from convoy.spec.kit import read_kit
from convoy.trust import login

V1 = "/api/v1"


class Person:
    """Their kit, and the server's address."""

    def __init__(self, kit, port):
        self.kit, self.port = read_kit(Path(kit)), int(port)
        self.root = self.kit.root_file.read_bytes()

    def line(self):
        """Return another line to the server."""
        return link.Link("localhost", self.port, self.root)

    async def log_in(self, line):
        """Return a header for another bearer."""
        nonce = json.loads(await line.ask("GET", f"{V1}/login"))["nonce"]
        said = login.answer(self.kit.key_file.read_bytes(), self.kit.certificate, self.kit.project, nonce)
        given = json.loads(await line.ask("POST", f"{V1}/login", content=json.dumps(said | {"nonce": nonce}).encode()))
        return {"authorization": f"Bearer {given['token']}"}

    async def logins(self):
        """Log in again and again."""
        line = self.line()
        while True:
            with suppress(ConvoyError):
                await self.log_in(line)

    async def asks(self, headers):
        """Ask for the list of jobs again and again."""
        line = self.line()
        while True:
            with suppress(ConvoyError):
                await line.ask("GET", f"{V1}/jobs", headers=headers)

    async def watches(self, job, headers):
        """Watch a job for as long as the server lets it."""
        while True:
            line = self.line()
            with suppress(ConvoyError):
                async with line.open("GET", f"{V1}/jobs/{job}/watch", headers=headers) as chunks:
                    async for _ in chunks:
                        pass
            await asyncio.sleep(10)
            await line.close()

    async def trickles(self, headers):
        """Begin an upload and send a byte of it a second."""
        context = ssl.create_default_context(cadata=self.root.decode())
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("localhost", self.port, ssl=context)
                head = f"POST {V1}/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
                writer.write(f"{head}Authorization: {headers['authorization']}\r\n\r\n".encode())
                while not writer.is_closing():
                    writer.write(b"C")
                    await writer.drain()
                    await asyncio.sleep(1)


async def main(kit, port, deed, job=""):
    """Do the deed many times at once; say so on standard output when it has begun."""
    os.nice(19)
    person = Person(kit, port)
    headers = await person.log_in(person.line())
    deeds = {
        "logins": lambda: [person.logins() for _ in range(50)],
        "asks": lambda: [person.asks(headers) for _ in range(64)],
        "watches": lambda: [person.watches(job, headers) for _ in range(1010)],
        "trickles": lambda: [person.trickles(headers) for _ in range(8)],
    }
    async with asyncio.TaskGroup() as group:
        for one in deeds[deed]():
            group.create_task(one)
        sys.stdout.write("begun\n")
        sys.stdout.flush()


asyncio.run(main(*sys.argv[1:]))
