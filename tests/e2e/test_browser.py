"""The API page in a real browser."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from convoy.admin.routes import ROUTES
from tests.federation import federation

pytestmark = [pytest.mark.scenario, pytest.mark.browser]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--ignore-certificate-errors", "--virtual-time-budget=5000"),
)


@pytest.fixture(scope="module")
def chromium():
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Debian's chromium: `make test` installs it")
        pytest.skip("there is no chromium here; `make test` as root on Debian installs it")
    return found


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    """The address of a running server's API page."""
    with federation(tmp_path_factory.mktemp("browser") / "fed", sites=1) as made:
        yield f"https://localhost:{made.admin_port}/docs"


def browse(chromium: str, page: str, folder: Path, *more: str) -> str:
    command = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", *more, page]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_page_shows_every_route_with_its_right(chromium, page, tmp_path):
    dom = browse(chromium, page, tmp_path, "--dump-dom")
    assert "the API of bench" in dom
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in dom
        assert route.needs in dom


def test_the_page_asks_nobody_else_for_anything(chromium, page, tmp_path):
    dom = browse(chromium, page, tmp_path, "--dump-dom")
    assert "http://" not in dom
    assert "src=" not in dom


def test_the_page_is_drawn(chromium, page, tmp_path):
    picture = tmp_path / "page.png"
    browse(chromium, page, tmp_path, f"--screenshot={picture}", "--window-size=1200,1600")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 50_000  # a blank page of this size has some 5 kB
