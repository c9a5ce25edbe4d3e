"""Health over plain HTTP on 8004: /livez, /readyz and /metrics, the same for server and site."""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from socket import socket
from typing import Any, Final, Literal
from urllib.parse import parse_qs

import structlog

from convoy.wire.door import bound

PORT: Final = "health_port in local/node.yaml"
LONGEST_S: Final = 300.0  # for a request to wait until the node is ready


@dataclass(frozen=True, slots=True)
class Metric:
    """One number for Prometheus; `labels` as pairs. Of a histogram, `value` is the sum of all its values."""

    name: str
    help: str
    value: float
    kind: Literal["gauge", "counter", "histogram"] = "gauge"
    labels: tuple[tuple[str, str], ...] = ()
    buckets: tuple[tuple[str, float], ...] = ()  # of a histogram: an upper bound, and how many values are not above it


@dataclass(frozen=True, slots=True)
class Vitals:
    """A node's health; `ready` returns why it is not ready, or ""; `becomes_ready` returns once it is."""

    ready: Callable[[], str]
    becomes_ready: Callable[[], Awaitable[object]]
    metrics: Callable[[], Iterable[Metric]]


def app(vitals: Vitals) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application of a node's health pages."""

    async def answer(scope: dict[str, Any], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/readyz":
            await _until_ready(scope["query_string"], vitals)
        status, kind, body = _page(scope["path"], vitals)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


async def _until_ready(query: bytes, vitals: Vitals) -> None:
    """Wait as long as `/readyz?within=SECONDS` says; without that, not at all."""
    try:
        within = float(parse_qs(query)[b"within"][0])
    except (KeyError, ValueError):
        return
    if not math.isnan(within):
        with suppress(TimeoutError):
            await asyncio.wait_for(vitals.becomes_ready(), min(within, LONGEST_S))


def _page(path: str, vitals: Vitals) -> tuple[int, str, bytes]:
    text = "text/plain; charset=utf-8"
    if path == "/livez":
        return 200, text, b"alive\n"
    if path == "/readyz":
        problem = vitals.ready()
        return (503, text, f"{problem}\n".encode()) if problem else (200, text, b"ready\n")
    if path == "/metrics":
        return 200, "text/plain; version=0.0.4; charset=utf-8", exposition(vitals.metrics())
    return 404, text, b"the pages are /livez, /readyz and /metrics\n"


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Return the metrics in Prometheus' text format, with the usual ones of a process (`process_…`) added."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # loaded by the first scrape
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    families: dict[str, Any] = {}
    for metric in metrics:
        names, values = [key for key, _ in metric.labels], [value for _, value in metric.labels]
        if metric.name not in families:
            families[metric.name] = kinds[metric.kind](metric.name, metric.help, labels=names)
        if metric.kind == "histogram":
            families[metric.name].add_metric(values, metric.buckets, metric.value)
        else:
            families[metric.name].add_metric(values, metric.value)

    class Once:
        def collect(self) -> Iterable[Any]:
            return families.values()

    registry = CollectorRegistry()
    registry.register(Once())
    ProcessCollector(registry=registry)
    return generate_latest(registry)


@asynccontextmanager
async def serving(vitals: Vitals, *, host: str, port: int) -> AsyncIterator[None]:
    """Listen for as long as the context lasts; raises `BadInput` when the port is taken.

    What speaks HTTP is loaded by the first client: a site that nobody looks at does without it.
    """
    with closing(bound(host, port, setting=PORT)) as sock:
        sock.listen()
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(_answer(sock, app(vitals)))
            try:
                yield
            finally:
                answering.cancel()


async def _answer(sock: socket, pages: Callable[..., Awaitable[None]]) -> None:
    while True:
        await _came(sock)
        try:
            quiet = await asyncio.to_thread(importlib.import_module, "convoy.wire.quiet")
        except Exception as problem:  # noqa: BLE001 - whoever asks for a node's health must not end it
            structlog.get_logger().error("the health port cannot answer", exc_info=problem)
            with suppress(OSError):
                sock.accept()[0].close()
            continue
        async with quiet.serving(pages, sock):
            await asyncio.Event().wait()


async def _came(sock: socket) -> None:
    """Wait for a client."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(sock)
