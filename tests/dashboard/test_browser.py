"""The dashboard in a real browser, over a real federation: logged in by the printed address, looked at, used."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.federation import ADMIN, federation

pytestmark = [pytest.mark.scenario, pytest.mark.browser]

PICTURES = os.environ.get("CONVOY_PICTURES")  # a folder that keeps the pictures, for whoever wants to look at them


@contextmanager
def dashboard(made):
    """Run `convoy dashboard` as a person does; give its process and the address that it prints."""
    command = [sys.executable, "-m", "convoy.cli.main", "dashboard", "--no-open", "--kit", str(made.prod / ADMIN)]
    command += ["--server", f"localhost:{made.admin_port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    with federation(tmp_path_factory.mktemp("dashboard") / "fed", sites=3) as made:
        yield made


def photograph(page, folder, name):
    data = page.photograph((Path(PICTURES) if PICTURES else folder) / f"{name}.png")
    assert len(data) > 10_000  # a blank page has some 5 kB
    return data


def test_a_person_sees_the_federation(fed, chromium, tmp_path):
    with dashboard(fed) as (process, url), chromium.page() as page:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", url)
        page.look()
        page.open(url)
        assert page.run("location.pathname + location.search") == "/"
        page.until("document.querySelectorAll('.strips .badge.good').length === 3")
        page.until("document.querySelector('.chart canvas') !== null")
        photograph(page, tmp_path, "overview-light")
        page.look(dark=True)
        photograph(page, tmp_path, "overview-dark")
        page.look(width=360, height=800)
        assert page.run("document.documentElement.scrollWidth") <= 360, "the page is wider than a phone"
        photograph(page, tmp_path, "overview-narrow")
        for name in ("jobs", "sites"):
            page.open(f"{url.split('?')[0]}{name}")
            assert page.run("document.documentElement.scrollWidth") <= 360
            photograph(page, tmp_path, f"{name}-narrow")
            page.look()
            photograph(page, tmp_path, f"{name}-light")
            page.look(width=360, height=800)
        assert page.complaints() == []
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
