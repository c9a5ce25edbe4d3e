"""The page at /docs: the routes, who may use them, what they take and answer; one file, no scripts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final, get_args, get_origin

from convoy.admin import views
from convoy.admin.route import Route
from convoy.control import rights

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d2733 }
h1 { font-weight: 600 } h2 { margin-top: 2.5rem; font-weight: 600 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #dde3ea }
th { font-weight: 600; color: #51606f } code { font: 13px ui-monospace, monospace }
.GET { color: #0a6b3d } .POST { color: #8a4b00 } .DELETE { color: #a3172a } .method { font-weight: 700 }
"""
WORDS: Final = {"none": "no", "own": "own", "org": "own organisation", "any": "any"}


def render(routes: Iterable[Route], *, version: str, project: str) -> str:
    """Return the page as HTML."""
    table = list(routes)
    models = {model for route in table for model in (route.answer, route.takes) if isinstance(model, type)}
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Convoy: {escape(project)}</title><style>{STYLE}</style></head>
<body>
<h1>Convoy {escape(version)}: the API of {escape(project)}</h1>
<p>Log in: <code>GET /api/v1/login</code> gives a nonce; sign
<code>convoy login 1\\n&lt;project&gt;\\n&lt;nonce&gt;</code>
with your kit's key (ECDSA, SHA-256, DER, base64) and <code>POST</code> it; send the token as
<code>Authorization: Bearer …</code>. For machines: <a href="/api/openapi.json">openapi.json</a>.</p>
<h2>Routes</h2>{_routes(table)}
<h2>Rights</h2>{_rights()}
<h2>What is sent</h2>{"".join(_model(model) for model in sorted(models | {views.Fault}, key=lambda m: m.__name__))}
</body>
</html>
"""


def _routes(table: list[Route]) -> str:
    rows = []
    for route in table:
        answer = route.answer.__name__ if route.answer is not None else "bytes"
        shape = {"one": answer, "list": f"[{answer}]", "lines": f"{answer}, a line each"}[route.shape]
        takes = route.takes.__name__ if isinstance(route.takes, type) else route.takes or ""
        asks = " ".join(f"{item.name}: {item.meaning}." for item in route.query)
        rows.append(
            f'<tr><td class="method {route.method}">{route.method}</td><td><code>{escape(route.path)}</code></td>'
            f"<td>{escape(route.summary)} {escape(asks)}</td><td>{route.needs}</td>"
            f"<td>{escape(takes)}</td><td>{escape(shape)}</td></tr>"
        )
    head = "<tr><th></th><th>path</th><th></th><th>right</th><th>takes</th><th>answers</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _rights() -> str:
    head = "".join(f"<th>{role}</th>" for role in rights.ROLES)
    rows = [
        f"<tr><td>{right}</td>{''.join(f'<td>{WORDS[rights.reach(role, right)]}</td>' for role in rights.ROLES)}</tr>"
        for right in rights.RIGHTS
    ]
    return f"<table><tr><th>right</th>{head}</tr>{''.join(rows)}</table>"


def _model(model: type[views.View]) -> str:
    rows = [
        f"<tr><td><code>{name}</code></td><td>{escape(type_name(field.annotation))}</td></tr>"
        for name, field in model.model_fields.items()
    ]
    return f"<h3>{model.__name__}</h3><p>{escape(model.__doc__ or '')}</p><table>{''.join(rows)}</table>"


def type_name(annotation: object) -> str:
    """Return a field's type as a reader knows it: without its limits."""
    inside, origin = get_args(annotation), get_origin(annotation)
    if hasattr(annotation, "__metadata__"):
        return type_name(inside[0])
    if origin is list or origin is dict:
        return f"{origin.__name__}[{', '.join(map(type_name, inside))}]"
    name = str(annotation) if inside else getattr(annotation, "__name__", str(annotation))
    return name.replace("convoy.admin.views.", "").replace("typing.", "")
