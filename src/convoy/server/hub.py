"""The open connections to sites, each with a queue; messages to a disconnected site are dropped, not stored."""

from __future__ import annotations

import structlog

from convoy.errors import NotAllowed
from convoy.wire import convoy_pb2 as pb
from convoy.wire.send_queue import SendQueue
from convoy.wire.stream import Stream


class Line:
    """One site's open stream, from our side."""

    def __init__(self, site: str, process: str, stream: Stream) -> None:
        """Start with an empty queue."""
        self.site = site
        self.process = process
        self.stream = stream
        self.downs: SendQueue[pb.Down] = SendQueue()
        self.certificate_ends_at = self.renews_at = 0.0  # wall seconds; 0 before the session begins, or for never
        self._full = False

    def send(self, down: pb.Down) -> None:
        """Queue a message; a site that leaves too many messages unread is disconnected."""
        if not self.downs.unread:
            self.downs.put_nowait(down)
        elif not self._full:
            self._full = True
            reason = f"{self.downs.qsize()} messages unread"
            structlog.get_logger().warning("a site is disconnected", site=self.site, reason=reason)
            self.stream.cut()

    def hang_up(self) -> None:
        """End the connection after the queued messages."""
        self.downs.put_nowait(None)


class Hub:
    """The sites that are connected now."""

    def __init__(self) -> None:
        """Start without connections."""
        self.lines: dict[str, Line] = {}
        self.behind: set[str] = set()  # sites whose messages were dropped because the disk was full

    def open(self, site: str, process: str, stream: Stream) -> Line:
        """Open a connection; an older one of the same process is closed, because a site has one stream.

        Raises `NotAllowed` while another process of that site is connected: one that died silently is noticed within
        30 s, by keepalive.
        """
        older = self.lines.get(site)
        if older is not None and older.process != process:
            raise NotAllowed(
                f"another process of {site} is connected",
                why="two processes with the same kit would do each task twice",
                fix="stop one of them",
            )
        if older is not None:
            older.hang_up()
        line = self.lines[site] = Line(site, process, stream)
        return line

    def close(self, line: Line) -> bool:
        """Forget a connection; return whether it was the site's current one."""
        if self.lines.get(line.site) is line:
            del self.lines[line.site]
            return True
        return False

    def send(self, site: str, down: pb.Down) -> None:
        """Send to a site if it is connected."""
        line = self.lines.get(site)
        if line is not None:
            line.send(down)

    def send_all(self, down: pb.Down) -> None:
        """Send to every site that is connected."""
        for line in self.lines.values():
            line.send(down)

    def catch_up(self) -> None:
        """Disconnect the sites whose messages were dropped: they reconnect at once and send them again."""
        for site in self.behind & self.lines.keys():
            self.lines[site].hang_up()
        self.behind.clear()

    def close_all(self) -> None:
        """Close all connections."""
        for line in self.lines.values():
            line.hang_up()
