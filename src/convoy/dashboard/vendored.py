"""Libraries of others that run in the browser: each with its version, its licence and the digest of every file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Vendored:
    """A package of npm, of which some files are in `assets/vendor/`, unchanged; `digests` are SHA-256."""

    name: str
    version: str
    licence: str
    digests: Mapping[str, str] = field(repr=False)

    def file(self, ending: str) -> str:
        """Return the name of its file with this ending."""
        return next(name for name in self.digests if name.endswith(ending))


HTMX: Final = Vendored(
    "htmx.org",
    "2.0.11",
    "0BSD",
    {
        "htmx-2.0.11.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
        "htmx-2.0.11.LICENSE.txt": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    },
)
SSE: Final = Vendored(
    "htmx-ext-sse",
    "2.2.4",
    "0BSD",
    {
        "htmx-ext-sse-2.2.4.min.js": "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
        "htmx-ext-sse-2.2.4.LICENSE.txt": "a17d224ce9afdc21ec9491b76a2f5d036d19aa641ac4f85ca29c21f9f7e54fdf",
    },
)
UPLOT: Final = Vendored(
    "uplot",
    "1.6.32",
    "MIT",
    {
        "uplot-1.6.32.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uplot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "uplot-1.6.32.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    },
)
ALL: Final = (HTMX, SSE, UPLOT)
STYLES: Final = (UPLOT.file(".min.css"),)  # in the order in which a page loads them
SCRIPTS: Final = (HTMX.file(".min.js"), SSE.file(".min.js"), UPLOT.file(".min.js"))
