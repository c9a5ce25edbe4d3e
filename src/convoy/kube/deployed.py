"""What `convoy kube up` leaves beside the kits, so that later commands find the federation: kube.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from convoy.errors import BadInput
from convoy.kube.options import Options

FILE: Final = "kube.json"  # in workspace/<project>/


@dataclass(frozen=True, slots=True)
class Deployed:
    """Where a federation runs, and how its server is reached there."""

    context: str
    namespace: str
    pod: str
    port: int  # people's
    admin: str  # the kit of one who may ask; "": none
    options: str  # as JSON

    def chosen(self) -> Options:
        """Return the options that it was made with."""
        return Options.model_validate_json(self.options, strict=False)


def keep(folder: Path, said: Deployed) -> None:
    """Write it into a project's folder of the workspace, whole or not at all."""
    draft = folder / f".{FILE}.part"
    draft.write_text(json.dumps(asdict(said), indent=2) + "\n")
    draft.replace(folder / FILE)


def read(folder: Path) -> Deployed | None:
    """Return what was remembered in a project's folder; None where nothing was. Raises `BadInput`."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return Deployed(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as problem:
        fix = "remove it, and run `convoy kube up` again"
        raise BadInput(f"{file} is not a file that `convoy kube up` wrote", fix=fix) from problem


def forget(folder: Path) -> None:
    """Remember nothing any more."""
    (folder / FILE).unlink(missing_ok=True)
