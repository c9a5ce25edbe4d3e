"""An API server in memory, for the real client over real HTTP: objects, rights, forwarded ports, commands in pods."""

import asyncio
import json
import socket
import sys
from contextlib import asynccontextmanager

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute


def refusal(status, message):
    return JSONResponse({"kind": "Status", "status": "Failure", "message": message, "code": status}, status)


async def forward(socket):
    """Carry one connection to the port of this machine that is asked for: channel 0 is data, 1 trouble."""
    port = int(socket.query_params["ports"])
    socket.app.state.carries.add(asyncio.current_task())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def back():
        while data := await reader.read(1 << 15):
            await socket.send_bytes(b"\0" + data)
        await socket.close()

    tasks = []
    try:
        await socket.accept()
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        tasks.append(asyncio.create_task(back()))
        while (message := await socket.receive())["type"] == "websocket.receive":
            writer.write(message["bytes"][1:])
    finally:
        writer.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, writer.wait_closed(), return_exceptions=True)


class Store:
    """What the API server keeps: objects by plural, namespace and name; a pod runs as soon as it is made."""

    def __init__(self, listed, hidden=(), volume=None, unknown=()):
        self.objects = {}
        self.hidden, self.volume, self.unknown = set(hidden), volume, set(unknown)
        self.fed = []  # the commands that pods were given
        for plural, items in listed.items():
            for it in items:
                self.objects[plural, it["metadata"].get("namespace", ""), it["metadata"]["name"]] = it

    def chosen(self, plural, namespace, selector):
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        return [
            it
            for (kind, space, _), it in self.objects.items()
            if kind == plural
            and namespace in ("", space)
            and wanted.items() <= it["metadata"].get("labels", {}).items()
        ]

    def apply(self, plural, namespace, name, said):
        it = merged(self.objects.get((plural, namespace, name), {}), said)
        self.objects[plural, namespace, name] = it
        meta = it["metadata"]
        meta.setdefault("uid", f"{plural}/{namespace}/{name}")
        if plural == "pods":
            it["status"] = {"phase": "Running"}
        if plural == "statefulsets":
            meta["generation"] = 1
            it["status"] = {"observedGeneration": 1, "updateRevision": "r"}
            labels = meta["labels"] | {"controller-revision-hash": "r"}
            pod = {"metadata": {"name": f"{name}-0", "namespace": namespace, "labels": labels, "uid": f"{name}-0"}}
            ready = [{"type": "Ready", "status": "True"}]
            self.objects["pods", namespace, f"{name}-0"] = pod | {"status": {"conditions": ready}}
        return it

    async def run(self, command, data):
        """Run a command as if in a pod, the volume being a folder here; return its exit status and complaints."""
        self.fed.append(command)
        words = [sys.executable, *(word.replace("/kits", str(self.volume)) for word in command[1:])]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stderr=pipe)
        while process.returncode is None and (chunk := await data()) is not None:
            process.stdin.write(chunk)
            await process.stdin.drain()
            if len(chunk) < 1 << 15:
                break  # a tar's last part: nobody says so, and the command must know
        complaint = await process.stderr.read()
        status = await process.wait()
        process.stdin.close()
        return status, complaint


def merged(old, new):
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    return new


async def execute(socket):
    """Run a command: channel 0 is its input, 2 its complaints, 3 how it ended."""
    socket.app.state.carries.add(asyncio.current_task())
    await socket.accept(subprotocol="v4.channel.k8s.io")
    await socket.send_bytes(b"\1")  # the line is open

    async def data():
        message = await socket.receive()
        return message["bytes"][1:] if message["type"] == "websocket.receive" else None

    status, complaint = await socket.app.state.store.run(socket.query_params.getlist("command"), data)
    if complaint:
        await socket.send_bytes(b"\2" + complaint)
    said = {"status": "Success"} if status == 0 else {"status": "Failure", "message": f"exit code {status}"}
    await socket.send_bytes(b"\3" + json.dumps(said).encode())
    await socket.close()


async def said_version(request):
    return JSONResponse({"gitVersion": request.app.state.version})


async def review(request):
    asked = (await request.json())["spec"]["resourceAttributes"]
    return JSONResponse({"status": {"allowed": request.app.state.allows(asked)}}, 201)


async def nothing_more():
    await asyncio.Event().wait()
    yield b""


async def items(request):
    store, plural = request.app.state.store, request.path_params["plural"]
    if plural in store.unknown:
        return refusal(404, f"there is no resource {plural}")
    if plural in store.hidden:
        return refusal(403, f"{plural} is forbidden")
    if request.query_params.get("watch"):
        return StreamingResponse(nothing_more())
    namespace, selector = request.path_params.get("namespace", ""), request.query_params.get("labelSelector", "")
    return JSONResponse({"items": store.chosen(plural, namespace, selector), "metadata": {"resourceVersion": "1"}})


async def item(request):
    store, params = request.app.state.store, request.path_params
    at = (params["plural"], params.get("namespace", ""), params["name"])
    if request.method == "PATCH" and params["plural"] not in store.unknown:
        return JSONResponse(store.apply(*at, await request.json()))
    if request.method == "DELETE" and at in store.objects:
        return JSONResponse(store.objects.pop(at))
    return refusal(404, f"{at} is not there")


def application(*, version="v1.33.1", listed=None, hidden=(), allows=lambda _: True, volume=None, unknown=()):
    """`listed`: objects by plural; `hidden`: plurals that may not be listed; `allows`: of resourceAttributes.

    `unknown`: plurals that this cluster does not have.
    """
    both, pod = ["PATCH", "DELETE"], "/api/v1/namespaces/{namespace}/pods/{pod}"
    roots = [
        f"{api}{space}/{{plural}}"
        for api in ("/api/v1", "/apis/{group}/{version}")
        for space in ("/namespaces/{namespace}", "")
    ]
    app = Starlette(
        routes=[
            Route("/version/", said_version),
            Route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, methods=["POST"]),
            WebSocketRoute(f"{pod}/portforward", forward),
            WebSocketRoute(f"{pod}/exec", execute),
            *(Route(root, items) for root in roots),
            *(Route(f"{root}/{{name}}", item, methods=both) for root in roots),
        ]
    )
    app.state.version, app.state.allows, app.state.carries = version, allows, set()
    app.state.store = Store(listed or {}, hidden, volume, unknown)
    return app


@asynccontextmanager
async def serving(folder, app):
    """Give the kubeconfig that leads to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "made-up",
            "contexts": [{"name": "made-up", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{listener.getsockname()[1]}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        file = folder / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        try:
            yield file
        finally:
            server.should_exit = True
            await task
            await asyncio.gather(*app.state.carries, return_exceptions=True)
