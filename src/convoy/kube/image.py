"""The Containerfile of an image for a site that needs more than numpy: Convoy's own image, and a requirements file."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

from convoy.errors import BadInput

_TEXT: Final = """\
# Convoy's own image, with the packages of {name}. Build it in the folder that contains {name}:
#   podman build -f Containerfile -t NAME . ; then set `image: NAME` in values.yml, for all sites or for one of them.
ARG CONVOY_IMAGE={image}
ARG BASE_IMAGE={base}

FROM ${{CONVOY_IMAGE}} AS convoy

FROM ${{BASE_IMAGE}} AS build
COPY --from=convoy /opt/convoy /opt/convoy
COPY {name} /build/requirements.txt
RUN python3 -m venv /build/pip \\
    && /build/pip/bin/python -m pip --python /opt/convoy/bin/python install --no-cache-dir -r /build/requirements.txt

FROM ${{CONVOY_IMAGE}}
COPY --from=build /opt/convoy /opt/convoy
"""


def containerfile(requirements: PurePath, *, image: str, base: str) -> str:
    """Return the Containerfile; `base` is the image with Python that `image` was built on.

    Raises `BadInput` for a requirements file outside the folder that the image is built from.
    """
    if requirements.is_absolute() or ".." in requirements.parts:
        raise BadInput(
            f"{requirements} is not in this folder or below it",
            why="an image is built from one folder and can use only files in it",
            fix="change to the folder that contains it",
        )
    return _TEXT.format(name=requirements.as_posix(), image=image, base=base)
