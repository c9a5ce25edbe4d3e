"""An API server as far as reading goes: what it lists, what it allows, ports forwarded; for the real client."""

import asyncio
import socket
from contextlib import asynccontextmanager

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse
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


def application(*, version="v1.33.1", listed=None, allows=lambda _: True):
    """`listed`: by plural, its items, or None where that may not be listed; `allows`: of resourceAttributes."""
    listed = listed or {}

    async def said(request):
        return JSONResponse({"gitVersion": version})

    async def review(request):
        asked = (await request.json())["spec"]["resourceAttributes"]
        return JSONResponse({"status": {"allowed": allows(asked)}}, 201)

    async def items(request):
        plural, namespace = request.path_params["plural"], request.path_params.get("namespace")
        found = listed.get(plural, [])
        if found is None:
            return refusal(403, f"{plural} is forbidden")
        chosen = [it for it in found if namespace in (None, it["metadata"].get("namespace"))]
        return JSONResponse({"items": chosen, "metadata": {"resourceVersion": "1"}})

    roots = ("/api/v1", "/apis/{group}/{version}")
    app = Starlette(
        routes=[
            Route("/version/", said),
            Route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, methods=["POST"]),
            WebSocketRoute("/api/v1/namespaces/{namespace}/pods/{pod}/portforward", forward),
            *(Route(f"{root}/{{plural}}", items) for root in roots),
            *(Route(f"{root}/namespaces/{{namespace}}/{{plural}}", items) for root in roots),
        ]
    )
    app.state.carries = set()
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
