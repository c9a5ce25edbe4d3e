"""The OpenAPI document, made from the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import models_json_schema

from convoy.admin import views
from convoy.admin.route import Route


def document(routes: Iterable[Route], *, version: str) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document of the routes."""
    table = list(routes)
    models = {model for route in table for model in (route.answer, route.takes) if isinstance(model, type)}
    ordered = sorted(models | {views.Fault}, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "serialization") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path.replace(":path}", "}"), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Convoy", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    said: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub('[^a-z]+', '_', route.path.removeprefix('/api')).rstrip('_')}",
        "x-right": route.needs,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)", route.path)
        ]
        + [
            {"name": item.name, "in": "query", "schema": {"type": item.kind}, "description": item.meaning}
            for item in route.query
        ],
        "responses": {
            "200": {"description": _described(route), "content": _content(route)},
            "default": {"description": "An error", "content": {"application/json": {"schema": _ref(views.Fault)}}},
        },
    }
    if route.needs != "public":
        said["security"] = [{"bearer": []}]
    if route.takes == "bytes":
        said["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": _BYTES}}}
    elif route.takes is not None:
        said["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(route.takes)}}}
    return said


_BYTES: dict[str, Any] = {"type": "string", "format": "binary"}


def _described(route: Route) -> str:
    if route.shape == "lines":
        return "A line of JSON for each item; empty lines keep the connection open; an error is the last, as `error`"
    return route.summary


def _content(route: Route) -> dict[str, Any]:
    if route.answer is None:
        return {"application/octet-stream": {"schema": _BYTES}}
    if route.shape == "list":
        return {"application/json": {"schema": {"type": "array", "items": _ref(route.answer)}}}
    kind = "application/x-ndjson" if route.shape == "lines" else "application/json"
    return {kind: {"schema": _ref(route.answer)}}


def _ref(model: type[views.View]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
