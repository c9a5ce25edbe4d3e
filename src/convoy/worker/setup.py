"""What a trainer begins with: its job, its site, the site's named data, and the folders of blobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn

from convoy.errors import BadInput

if TYPE_CHECKING:
    from convoy.store.blobs import BlobFolder


class Data(dict[str, str]):
    """The site's named data: a path for each name in local/node.yaml."""

    FIX: ClassVar[str] = "the site's owner adds `data: {{{name}: path}}` to local/node.yaml"
    withheld: frozenset[str] = frozenset()  # by the site's policy, from the code of jobs

    def __missing__(self, name: str) -> NoReturn:
        if name in self.withheld:
            raise BadInput(
                f"this site keeps the data {name!r} from the code of jobs",
                why="its policy has `only: statistics` or `only: analytics` for it",
                fix="use `workflow: statistics`, without a trainer, or ask the owner of the site",
            )
        known = ", ".join(sorted(self)) or "none at all"
        raise BadInput(
            f"this site has no data named {name!r}",
            why=f"it has {known}",
            fix=self.FIX.format(name=name),
        )


class Setup(NamedTuple):
    """What a trainer receives once, before its first task. A tuple, as in `control.effects`: simulations make many."""

    job: str
    name: str
    site: str
    config: Mapping[str, Any]
    data: Data
    seed: str = ""  # the job's
    code: Path | None = None  # the folder of the job's files
    model: str = ""  # job.yaml's `model`


@dataclass(frozen=True, slots=True)
class Files:
    """Where a worker reads its job's blobs, and where it writes its own, for its node to copy."""

    blobs: BlobFolder
    out: Path
