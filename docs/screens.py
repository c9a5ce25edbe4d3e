"""Writes docs/dashboard/*.png: each page of the dashboard in light, in dark and on a phone, as its tests see it.

make screens
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HOME = Path(__file__).parent
LOOKS = ("light", "dark", "narrow")
SCALE, GAP = 2, 16  # a page has half its size; pixels between two looks
TALLEST = 1200  # pixels of a page that are shown


def main() -> None:
    """Run the tests that take pictures, and put the three looks of each page side by side."""
    with tempfile.TemporaryDirectory() as made:
        tests = sorted((HOME.parent / "tests" / "dashboard").glob("test_*browser*.py"))
        command = [sys.executable, "-m", "pytest", "-q", *map(str, tests)]
        subprocess.run(command, check=True, cwd=HOME.parent, env=os.environ | {"CONVOY_PICTURES": made})
        compose(Path(made), HOME / "dashboard")


def compose(pictures: Path, target: Path) -> None:
    """Write a picture for each page that was seen in all looks."""
    target.mkdir(exist_ok=True)
    for old in target.glob("*.png"):
        old.unlink()
    for light in sorted(pictures.glob("*-light.png")):
        name = light.name.removesuffix("-light.png")
        files = [pictures / f"{name}-{look}.png" for look in LOOKS]
        if all(file.exists() for file in files):
            side_by_side(files).save(target / f"{name.partition('@')[0]}.png", optimize=True)


def side_by_side(files: list[Path]) -> Image.Image:
    """Return pictures in one row, each at half its size and cut where it is too tall."""
    pages = []
    for file in files:
        page = Image.open(file).convert("RGB")
        page = page.crop((0, 0, page.width, min(page.height, TALLEST)))
        pages.append(page.resize((page.width // SCALE, page.height // SCALE), Image.Resampling.LANCZOS))
    width, height = sum(it.width for it in pages) + GAP * (len(pages) - 1), max(it.height for it in pages)
    whole = Image.new("RGB", (width, height), "#808080")
    left = 0
    for page in pages:
        whole.paste(page, (left, 0))
        left += page.width + GAP
    return whole.quantize(colors=128)


if __name__ == "__main__":
    main()
