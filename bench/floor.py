"""The floor: raw Python TLS 1.3 with client certificates; as many processes move the same bytes and one sums them.

A server sends every client a model of `size` bytes and adds up the float32 updates that come back, 1 MiB at a time.
Nothing is stored, checked, hashed or resumed: what this costs, every system pays.
"""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from convoy.trust.authority import Authority

CHUNK = 1 << 20


def _exactly(sock: ssl.SSLSocket, view: memoryview) -> None:
    while view:
        got = sock.recv_into(view)
        if not got:
            raise ConnectionError("closed")
        view = view[got:]


def _client(folder: Path, port: int, size: int, rounds: int, seed: int) -> None:
    context = ssl.create_default_context(cafile=folder / "root.crt")
    context.load_cert_chain(folder / "site.crt", folder / "site.key")
    update = np.random.default_rng(seed).standard_normal(size // 4, dtype=np.float32)
    model = bytearray(size)
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(rounds):
            _exactly(sock, memoryview(model))
            view = memoryview(update).cast("B")
            for start in range(0, size, CHUNK):
                sock.sendall(view[start : start + CHUNK])


def measure(size: int, clients: int, rounds: int = 5) -> float:
    """Return the median seconds of a round."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "ca").mkdir()
        authority = Authority.create("floor", folder / "ca", now=time.time())
        for kind, name in (("server", "server"), ("site", "site")):
            key, cert = authority.issue(kind, name, now=time.time())
            (folder / f"{name}.key").write_bytes(key)
            (folder / f"{name}.crt").write_bytes(cert)
        (folder / "root.crt").write_bytes(authority.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        context.load_verify_locations(folder / "root.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        with socket.create_server(("127.0.0.1", 0), backlog=clients) as listener:
            port = listener.getsockname()[1]
            fork = multiprocessing.get_context("fork")
            crowd = [fork.Process(target=_client, args=(folder, port, size, rounds, seed)) for seed in range(clients)]
            for process in crowd:
                process.start()
            peers = [context.wrap_socket(listener.accept()[0], server_side=True) for _ in range(clients)]
            for peer in peers:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            times = [_round(peers, size) for _ in range(rounds)]
            for process in crowd:
                process.join()
            for peer in peers:
                peer.close()
    return statistics.median(times)


def _round(peers: list[ssl.SSLSocket], size: int) -> float:
    model = np.zeros(size // 4, np.float32)
    total, lock = np.zeros(size // 4, np.float32), threading.Lock()

    def serve(peer: ssl.SSLSocket) -> None:
        view = memoryview(model).cast("B")
        for start in range(0, size, CHUNK):
            peer.sendall(view[start : start + CHUNK])
        chunk = np.empty(CHUNK // 4, np.float32)
        for start in range(0, size // 4, CHUNK // 4):
            part = chunk[: min(CHUNK // 4, size // 4 - start)]
            _exactly(peer, memoryview(part).cast("B"))
            with lock:
                total[start : start + len(part)] += part

    begin = time.perf_counter()
    threads = [threading.Thread(target=serve, args=(peer,)) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


if __name__ == "__main__":
    for size, clients in ((10_000 // 4 * 4, 2), (50_000_000, 2), (50_000_000, 8)):
        print(f"{size / 1e6:8.2f} MB x {clients}: {measure(size, clients):.4f} s a round")
