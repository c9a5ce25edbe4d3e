"""Points of live metrics on their way from a job's code to its node: gathered without a thread, and few enough."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from convoy.control.points import Point
from convoy.errors import BadInput
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values

GATHER_S: Final = 1.0  # between two messages with points
SOON: Final = 500  # points that are sent without waiting for that
VALUES_S: Final = 2000  # values a second that are sent; more are left out, so that nothing waits for them
BURST_S: Final = 4.0  # seconds' worth of values that may come at once


class Batch:
    """Points on their way to the node: sent at once where none were sent lately, else gathered; there is no thread.

    Calls of several threads are taken one after the other. Memory is bounded by `SOON` points.
    """

    def __init__(
        self,
        send: Callable[[pb.Points], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send` sends a message, in any thread that measures; `say` writes a line into the job's log."""
        self._send, self._say, self._clock = send, say, clock
        self._lock = threading.RLock()  # a signal's handler may measure in the middle of a call
        self._process = os.getpid()
        self._gathered: list[pb.Point] = []
        self._sent_at = -math.inf
        self._left, self._at = VALUES_S * BURST_S, clock()
        self._dropped = 0

    def add(self, point: Point) -> None:
        """Take a point. Raises `BadInput` in another process than the trainer's own."""
        if os.getpid() != self._process:
            raise BadInput(
                "convoy.metrics was called in a process that the trainer has started",
                why="only the trainer's own process is connected to its node",
                fix="give the numbers back to that process, and report them there",
            )
        with self._lock:
            now = self._clock()
            self._left = min(self._left + (now - self._at) * VALUES_S, VALUES_S * BURST_S)
            self._at = now
            if len(point.values) > self._left:
                self._dropped += len(point.values)
            else:
                self._left -= len(point.values)
                self._gathered.append(values.point_to(point))
            if now - self._sent_at >= GATHER_S or len(self._gathered) >= SOON:
                self._sent_at = now
                self._pass_on()

    def flush(self) -> None:
        """Send what is gathered; say in the log how many values were left out."""
        with self._lock:
            self._pass_on()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                said = f"more than {VALUES_S} a second were measured"
                self._say(f"convoy: {dropped} values of live metrics are left out: {said}")

    def _pass_on(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._send(pb.Points(points=gathered))
