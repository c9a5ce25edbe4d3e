"""Debian's Chromium, driven by its own protocol over a pipe: pages opened, looked at, clicked, photographed."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe"),
    "--disable-dev-shm-usage",
)
DOCUMENTS = 5  # that may come one after the other while a condition is awaited
PATIENCE_S = 40.0  # after which a page that does not come fails the test
SEEN = """new Promise((done) => {
  const look = () => { if (%s) { watcher.disconnect(); done(true); } };
  const watcher = new MutationObserver(look);
  watcher.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
  look();
})"""

WIDER = """((wide) => document.documentElement.scrollWidth <= wide ? [] : [...document.querySelectorAll('body *')]
  .filter((it) => it.getBoundingClientRect().right > wide && !it.parentElement.closest('.scroll, nav, .plot'))
  .map((it) => it.outerHTML.slice(0, 200)))(%s)"""  # what makes a page wider than the window


class Navigated(Exception):
    """The page went elsewhere while a script of the test waited in it."""


@dataclass
class Chromium:
    """A browser process; `page` opens a tab of it, with cookies of its own."""

    commands: int
    answers: int
    number: int = 0
    rest: bytes = b""
    events: deque[dict] = field(default_factory=lambda: deque(maxlen=2000))

    @classmethod
    @contextmanager
    def started(cls, program: str, folder: Path):
        theirs, commands = os.pipe()
        answers, writes = os.pipe()
        script = f'exec "$@" 3<&{theirs} 4>&{writes}'
        command = ["bash", "-c", script, "bash", program, *FLAGS, f"--user-data-dir={folder / 'profile'}"]
        with (folder / "chromium.log").open("wb") as log:
            process = subprocess.Popen(command, pass_fds=[theirs, writes], stdout=log, stderr=log)
        os.close(theirs)
        os.close(writes)
        try:
            yield cls(commands, answers)
        finally:
            os.close(commands)
            os.close(answers)
            process.kill()
            process.wait()

    def ask(self, method: str, session: str | None = None, **params):
        """Return the result of a command."""
        self.number += 1
        wanted, told = self.number, {"id": self.number, "method": method, "params": params}
        if session:
            told["sessionId"] = session
        os.write(self.commands, json.dumps(told).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            said = self._read(deadline)
            if said.get("id") == wanted:
                if "navigated" in said.get("error", {}).get("message", ""):
                    raise Navigated(method)
                assert "error" not in said, (method, said["error"])
                return said["result"]
            self.events.append(said)

    def wait(self, event: str, session: str):
        """Return the parameters of an event, of one that has come already or the next."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for said in self.events:
                if said.get("method") == event and said.get("sessionId") == session:
                    self.events.remove(said)
                    return said["params"]
            self.events.append(self._read(deadline))

    def _read(self, deadline: float) -> dict:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], max(0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            data = os.read(self.answers, 1 << 20)
            assert data, "Chromium has ended"
            self.rest += data
        first, self.rest = self.rest.split(b"\0", 1)
        return json.loads(first)

    @contextmanager
    def page(self):
        """Give a tab in a context of its own: no other tab's cookies."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        made = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            made.ask(f"{domain}.enable")
        try:
            yield made
        finally:
            self.ask("Target.disposeBrowserContext", browserContextId=context)


@dataclass
class Page:
    """A tab."""

    browser: Chromium
    session: str
    width: int = 1280  # of the window, as `look` set it last

    def ask(self, method: str, **params):
        return self.browser.ask(method, self.session, **params)

    def open(self, url: str) -> None:
        """Go somewhere and wait until it is loaded."""
        self.forget("Page.loadEventFired")
        failed = self.ask("Page.navigate", url=url).get("errorText")
        assert not failed, (url, failed)
        self.browser.wait("Page.loadEventFired", self.session)

    def forget(self, event: str) -> None:
        kept = [it for it in self.browser.events if (it.get("method"), it.get("sessionId")) != (event, self.session)]
        self.browser.events.clear()
        self.browser.events.extend(kept)

    def run(self, script: str):
        """Return the value of a script, of the one that it promises if it promises one."""
        said = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until a condition about the document is true, also if that is another document by then."""
        for _ in range(DOCUMENTS):
            try:
                assert self.run(SEEN % condition)
            except Navigated:
                continue
            return
        raise AssertionError(f"{DOCUMENTS} documents came one after the other")

    def text(self, selector: str = "body") -> str:
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def look(self, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Give the tab a size and the person's colours."""
        self.width = width
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=scheme)
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def wider(self) -> list[str]:
        """Return the first lines of what reaches beyond the window, but for what lies in something that scrolls."""
        return self.run(WIDER % self.width)

    def photograph(self, file: Path) -> bytes:
        """Save the whole page as a picture and return it."""
        said = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        data = base64.b64decode(said["data"])
        file.write_bytes(data)
        return data

    def complaints(self) -> list[str]:
        """Return what the browser's console said of errors: blocked by the policy, exceptions, missing files."""
        found = []
        for said in self.browser.events:
            if said.get("sessionId") != self.session:
                continue
            params = said["params"]
            if said["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(params["entry"]["text"])
            if said["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
        return found
