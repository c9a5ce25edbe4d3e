"""The bundles that a site's owner has approved one by one, in local/approved.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from convoy.errors import BadInput
from convoy.spec import yamls

DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_HEAD: Final = """\
# Bundles that may run here, whoever submitted them. Each is named by the digest of all its bytes.
# `convoy site approve` adds a line; if you remove a line, its bundle needs a new approval.
"""


@dataclass(frozen=True, slots=True)
class Approval:
    """One approved bundle."""

    digest: str  # BLAKE3 of the bundle, 64 hex digits
    when: str  # it was approved, ISO 8601 in UTC, for people
    note: str = ""  # for people


def read_approvals(path: Path) -> tuple[Approval, ...]:
    """Return what a file approves; nothing if there is none. Raises `BadInput`."""
    if not path.exists():
        return ()
    document = yamls.load_file(path)
    listed = [] if document.data is None else document.data
    if not isinstance(listed, list):
        raise BadInput(f"{yamls.seen(listed)} is not a list of approved bundles", where=document.where(()))
    return tuple(_approval(document, index, item) for index, item in enumerate(listed))


def written(approvals: Iterable[Approval]) -> str:
    """Return the file that says this."""
    return _HEAD + "".join(f"- {json.dumps(asdict(approval))}\n" for approval in approvals)


def _approval(document: yamls.Document, index: int, item: Any) -> Approval:
    """Return one approval, checked."""
    if not isinstance(item, dict) or not set(item) <= {"digest", "when", "note"}:
        raise BadInput(
            f"{yamls.seen(item)} is not an approval",
            fix='write `- {digest: "…", when: "…", note: "…"}`, or let `convoy site approve` write it',
            where=document.where((index,)),
        )
    digest = item.get("digest")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise BadInput(
            f'"digest" is {yamls.seen(digest)}; wanted 64 hex digits in quotes',
            fix="`convoy job show` of the refused job shows it in full",
            where=document.where((index, "digest")),
        )
    return Approval(digest, str(item.get("when", "")), str(item.get("note", "")))
