"""What every node says of itself for Prometheus: its version, its clock, its disk, its certificates."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from convoy.node.phases import Phases
from convoy.node.starts import Counting
from convoy.node.turns import Turns
from convoy.spec.kit import Kit
from convoy.wire.health import Metric


@dataclass(slots=True)
class NodeMetrics:
    """The parts of a node that measure, and what there is to measure."""

    kit: Kit
    version: str  # of Convoy
    folder: Path
    reserve: int  # bytes that the disk is to keep free
    turns: Turns
    launcher: Counting
    phases: Phases = field(default_factory=Phases)
    _pem: tuple[bytes, bytes] = (b"", b"")
    _spans: dict[str, tuple[float, float]] = field(default_factory=dict)  # of `_pem`, by certificate

    def all(self) -> Iterator[Metric]:
        """Yield every number of this node as it is now."""
        about = (("version", self.version), ("kind", self.kit.kind), ("name", self.kit.name))
        yield Metric("convoy_node_info", "1; the labels say what this node is.", 1, labels=about)
        yield Metric("convoy_clock_timestamp_seconds", "What this node's clock says, since the epoch.", time.time())
        disk = shutil.disk_usage(self.folder)
        yield Metric("convoy_disk_free_bytes", "Free bytes of the disk with this node's working folder.", disk.free)
        yield Metric("convoy_disk_size_bytes", "Size of that disk.", disk.total)
        reserve = "Below so many free bytes this node takes no new work."
        yield Metric("convoy_disk_reserve_bytes", reserve, self.reserve)
        yield from self._certificates()
        yield from self.turns.metrics()
        yield from self.launcher.metrics()
        yield from self.phases.metrics()

    def _certificates(self) -> Iterator[Metric]:
        """Yield when each certificate began and ends; they are parsed again only when their bytes have changed."""
        pem = (self.kit.certificate if self.kit.enrolled else b"", self.kit.root_file.read_bytes())
        if pem != self._pem:
            from convoy.trust import authority  # loaded by the first scrape, not by an idle site

            own = authority.read_chain(pem[0]) if pem[0] else []
            found = {
                **dict(zip((self.kit.kind, "issuing"), own, strict=False)),
                "root": authority.read_chain(pem[1])[0],
            }
            self._pem = pem
            self._spans = {
                name: (cert.not_valid_before_utc.timestamp(), cert.not_valid_after_utc.timestamp())
                for name, cert in found.items()
            }
        for name, (since, until) in self._spans.items():
            labels = (("certificate", name),)
            begin, end = "When this certificate began to be valid, since the epoch.", "When this certificate expires."
            yield Metric("convoy_certificate_begin_timestamp_seconds", begin, since, labels=labels)
            yield Metric("convoy_certificate_expiry_timestamp_seconds", end, until, labels=labels)
