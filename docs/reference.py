"""Writes docs/reference/*.md from the code: commands, REST, files, workflows, Python, partitions, errors, limits."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import convoy
import convoy.keras
import convoy.torch
from convoy import admin, errors, partition, sklearn, tracking, trees
from convoy.admin import changes, faults, page, route, routes, views
from convoy.cli.console_verbs import VERBS
from convoy.cli.main import app
from convoy.control import rights, transitions
from convoy.flows.catalog import BUILT_IN, Entry
from convoy.flows.training import Training
from convoy.provision import sample
from convoy.sim.parts import SPLITS
from convoy.spec import filters, names, policy, project, settings
from convoy.spec.job import Job, Resources

FOLDER: Final = Path(__file__).parent / "reference"
SOURCE: Final = Path(convoy.__file__).parent
MARK: Final = "<!-- Written by `make docs` from the code; do not edit. -->"

# What a key means and in which unit it is: the one thing that the models cannot say. A key without a line here, or a
# line without its key, stops the script.
JOB: Final = {
    "name": ("a word: letters, digits, `-`, `_`, `.`", "the name of the job"),
    "workflow": ("text", "runs at the server: a built-in workflow, or `flow.py:run`, an async function in this folder"),
    "with": ("mapping", "the workflow's own parameters, checked against its signature"),
    "trainer": (
        "text",
        "runs at the sites: `train.py`, a script, or `train.py:train`, a function; none: Convoy's own answers",
    ),
    "config": ("mapping", "the trainer's own settings, `task.config`; the workflow sees them as `fleet.job.config`"),
    "model": ("text", "the first model: `train.py:initial`, a function, or a `.safetensors` file; default: no arrays"),
    "seed": (
        "number or text",
        "what is drawn by chance follows from it: cohorts, `task.seed`; default: the job's files",
    ),
    "patience": ("duration", "how long a site may make no progress at all before the job goes on without it"),
    "resources": ("mapping", "what the job reserves at each site while it runs"),
    "image": ("text", "the image of the trainer's pod, where sites run jobs in pods and their policies allow it"),
    "sites": ("list of names", "only these sites; without it: all sites of the project"),
}
RESOURCES: Final = {
    "cpu": ("cores", "out of those that `cpu` in the site's node.yaml offers to jobs"),
    "memory": ("size", "out of what `memory` in the site's node.yaml offers to jobs"),
    "gpu": ("devices", "out of those that `gpu` in the site's node.yaml offers to jobs"),
}
PROJECT: Final = {
    "api_version": ("3 or 4", "NVIDIA FLARE's number for this format; both have the same meaning here"),
    "name": ("a word", "the name of the project, of its folder in the workspace, and in every certificate"),
    "description": ("text", "for people"),
    "participants": ("list", "one server, the sites, the admins"),
}
PARTICIPANT: Final = {
    "name": ("text", "unique in the project, regardless of case; an admin's name has the form of an e-mail address"),
    "type": ("`server`, `client` (or `site`), `admin`", "the kind of participant"),
    "org": ("text", "the organisation; an `org_admin` manages the sites and jobs of their own organisation"),
    "fed_learn_port": ("TCP port", "where the server listens for sites"),
    "admin_port": ("TCP port", "where it listens for people; if it is the port of the sites, people get the next one"),
    "default_host": (
        "host name or address",
        "the address at which sites and people find the server; default: its name",
    ),
    "host_names": ("list of host names or addresses", "other names that are written into the server's certificate"),
    "role": (", ".join(f"`{role}`" for role in names.ROLES), "what the person may do"),
}
POLICY: Final = {  # key: default, wanted, meaning
    "run": (
        "`[{org: own}, {role: project_admin}]`",
        "list of rules",
        "who may run code: people who match all of `person`, `org`, `role` in one rule; `own` means the site's",
    ),
    "workflows": ("any", "list of patterns", "workflows that the site takes part in, such as `fedavg` or `flow.py:*`"),
    "images": (
        "`[]`",
        "list of patterns",
        "images that a job may name, where jobs run in pods; a job that names none gets the site's own",
    ),
    "limits": (
        "none",
        "mapping of `cpu`, `memory`, `gpu`, `state`",
        "the most that one job may ask for under `resources`, and the bytes that its trainer may keep between tasks",
    ),
    "leave": (
        (
            "`{logs: true, metrics: true, live: {keys: ['*'], per_hour: 100000, digits: 6}, values: true, "
            "weight: exact, arrays: 16Mi, artifacts: 0, resources: true}`"
        ),
        "mapping of `logs`, `metrics`, `live`, `values`, `weight`, `arrays`, `artifacts`, `resources`",
        (
            "whether a job's output and errors, its metrics, and its values (JSON beside the arrays) leave; `live`: "
            "which live metrics leave, by patterns of their `keys`, how many values of one job in each hour of the "
            "clock, and rounded to how many significant `digits`; true, false, or the mapping; with `metrics: false` "
            "none; weights leave `exact`, `rounded` (one digit) or `fixed`; `arrays`: bytes of arrays not shaped like "
            "the model; `artifacts`: bytes of a job's artifacts/; `resources`: what tasks took: seconds, bytes"
        ),
    ),
    "tables": (
        "`{}`",
        "mapping of patterns to `minimum_count` (10), `digits`, `extremes` (false), `only`",
        (
            "the rules for [statistics](../analytics.md#what-a-site-releases) of data of that name; `only: statistics` "
            "keeps it from the code of jobs, and `only: analytics` admits [fits](../analytics.md#fits) besides"
        ),
    ),
    "isolation": (
        "`[]`",
        "list of files, processes, network",
        "the parts of isolation that jobs must have here: if this machine lacks one, no job runs",
    ),
    "filters": (
        "`[]`",
        "list of filters",
        (
            "the filters that every answer passes before it leaves, in order; with `kinds` in a filter, such as "
            "`clip: {norm: 1.0, kinds: [train]}`, answers to these questions alone"
        ),
    ),
}
TRAINING: Final = "../workflows.md#what-every-training-workflow-takes"
DOTTED: Final = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(\w+)")  # a name with its modules in front
MEANING: Final = {"own": "their own jobs", "org": "their organisation's", "any": "yes", "none": "no"}


def pages() -> dict[str, str]:
    """Return the text of every page by its file's name."""
    return {
        name: f"{MARK}\n\n" + "\n".join(lines).strip() + "\n"
        for name, lines in (
            *((f"workflows/{name}.md", _workflow(name, entry)) for name, entry in BUILT_IN.items()),
            ("commands.md", _commands()),
            ("rest.md", _rest()),
            ("files.md", _files()),
            ("workflows.md", _workflows()),
            ("python.md", _python()),
            ("partition.md", _partition()),
            ("errors.md", _errors()),
            ("states.md", _states()),
            ("limits.md", _limits()),
        )
    }


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table and an empty one."""
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def code(value: object) -> str:
    """Return a value as code; nothing for nothing."""
    return f"`{value}`" if str(value) else ""


# ---- commands ------------------------------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "Every command has `--help`. The exit codes are in [errors.md](errors.md)."
    yield ""
    yield from table(
        ("command", "what it does"),
        ((f"[`{path}`](#{_anchor(path)})", _first(command)) for path, command, _ in _walk(app, None, "convoy")),
    )
    for path, command, context in _walk(app, None, "convoy"):
        yield from _command(path, command, context)
    yield "## The console's verbs"
    yield ""
    yield "`convoy console` opens a prompt with these verbs; each one does the same as the command in its row."
    yield ""
    yield from table(
        ("verb", "what it does", "the same as"),
        ((code(f"{v.name} {v.takes}".strip()), v.summary, code(v.same)) for v in VERBS.values()),
    )


def _walk(command: click.Command, above: click.Context | None, name: str) -> Iterator[tuple[str, Any, click.Context]]:
    """Yield every command that does something: path, command, context."""
    context = click.Context(command, parent=above, info_name=name)
    if not isinstance(command, click.Group):
        yield context.command_path, command, context
        return
    for each in sorted(command.list_commands(context)):
        found = command.get_command(context, each)
        if found is not None and not found.hidden:
            yield from _walk(found, context, each)


def _command(path: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {path}"
    yield ""
    yield inspect.cleandoc(command.help or "")
    yield ""
    yield "```text"
    yield " ".join([path, *command.collect_usage_pieces(context)])
    yield "```"
    yield ""
    options = [it for it in command.params if isinstance(it, click.Option) and not it.hidden]
    if options:
        yield from table(("option", "what it does"), ((code(_written(it)), it.help or "") for it in options))


def _written(option: click.Option) -> str:
    """Return an option as a person types it."""
    names = ", ".join(sorted(option.opts, key=len))
    if option.is_flag or option.count:
        return names
    return f"{names} {option.metavar or option.type.name.upper().replace(' RANGE', '')}"


def _first(command: click.Command) -> str:
    return (command.help or "").strip().split("\n")[0]


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


# ---- REST ----------------------------------------------------------------------------------------------------------


def _rest() -> Iterator[str]:
    yield "# REST"
    yield ""
    yield "The server answers on its admin port (8003) with HTTPS, TLS 1.3. It serves the same as an OpenAPI document"
    yield "at `/api/openapi.json`, and as a page at `/docs`."
    yield ""
    yield "*right*: the right that the caller's role must have, for the job or the site in the path. `public`: no login"
    yield "is needed. `known`: any role."
    yield ""
    yield from table(
        ("route", "right", "what it does", "takes", "answers"),
        (
            (code(f"{r.method} {r.path.replace(':path}', '}')}"), code(r.needs), r.summary, _takes(r), _answers(r))
            for r in routes.ROUTES
        ),
    )
    yield "An error answers with a [Fault](#fault) and the HTTP status that [errors.md](errors.md) lists."
    yield ""
    yield "## Roles and rights"
    yield ""
    yield from table(
        ("right", *map(code, rights.ROLES)),
        ((code(it), *(MEANING[rights.reach(role, it)] for role in rights.ROLES)) for it in rights.RIGHTS),
    )
    yield "## Models"
    yield ""
    for model in _models():
        yield f"### {model.__name__}"
        yield ""
        yield inspect.cleandoc(model.__doc__ or "")
        yield ""
        if model.model_fields:
            yield from table(
                ("field", "type"),
                ((code(n), code(page.type_name(f.annotation))) for n, f in model.model_fields.items()),
            )


def _takes(route: route.Route) -> str:
    said = [f"`?{query.name}=` {query.kind}: {query.meaning}" for query in route.query]
    if route.takes == "bytes":
        said.insert(0, "bytes")
    elif route.takes is not None:
        said.insert(0, _link(route.takes))
    return "; ".join(said)


def _answers(route: route.Route) -> str:
    if route.answer is None:
        return "bytes"
    return {"one": "", "list": "list of ", "lines": "a line of JSON for each "}[route.shape] + _link(route.answer)


def _link(model: type[BaseModel]) -> str:
    return f"[{model.__name__}](#{model.__name__.lower()})"


def _models() -> list[type[views.View]]:
    known = (vars(views) | vars(changes)).values()
    found = [it for it in known if isinstance(it, type) and issubclass(it, views.View)]
    return sorted((it for it in found if it is not views.View), key=lambda it: it.__name__)


def _type(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    return DOTTED.sub(r"\1", name)


# ---- files ---------------------------------------------------------------------------------------------------------


def _files() -> Iterator[str]:
    yield "# Files"
    yield ""
    yield "What people write. An unknown key, a wrong type or a bad value is refused with its line and column."
    yield ""
    yield "*duration*: `500ms`, `30s`, `10m`, `1h30m`, `2d`, or a bare number of seconds. *size*: `512Mi` or `1Gi`"
    yield "(1024s), `500M` or `1G` (1000s), or a bare number of bytes."
    yield ""
    yield "## job.yaml"
    yield ""
    yield from _keys(_fields(Job), JOB)
    yield "### resources"
    yield ""
    yield from _keys(_fields(Resources), RESOURCES)
    yield "## project.yml"
    yield ""
    head = {**_fields(project.Project), "participants": (True, None)}
    yield from _keys({key: it for key, it in head.items() if key not in ("server", "sites", "admins")}, PROJECT)
    yield "### participants"
    yield ""
    yield from _participants()
    yield "### Read and ignored"
    yield ""
    yield "Keys of NVIDIA FLARE's files that Convoy does not need. `convoy provision` lists each one it finds, with"
    yield "its line. Any other unknown key is refused as a typing error."
    yield ""
    passed = {**project._IGNORED, **project._IGNORED_OF_PARTICIPANTS}  # noqa: SLF001 - the docs show them
    yield from table(("key", "why"), ((code(key), why) for key, why in passed.items()))
    types = project._IGNORED_TYPES.items()  # noqa: SLF001 - the docs show them
    yield from table(("type of participant", "why"), ((code(key), why) for key, why in types))
    yield from _node()
    yield "## policy.yaml"
    yield ""
    yield "A site's `local/policy.yaml`. Every key is optional. People who match no rule of `run` need an approval of"
    yield "the bundle: `convoy site approve` writes it into `local/approved.yaml`."
    yield ""
    if set(POLICY) != set(policy.KEYS):
        raise SystemExit(f"docs/reference.py: keys of policy.yaml without a meaning: {set(POLICY) ^ set(policy.KEYS)}")
    yield from table(("key", "default", "wanted", "meaning"), ((code(key), *POLICY[key]) for key in policy.KEYS))
    known = filters._KINDS.items()  # noqa: SLF001 - the docs show them
    yield from table(("filter", "wanted"), ((code(name), wanted) for name, (wanted, _, _) in known))


def _fields(model: type[BaseModel]) -> dict[str, tuple[bool, Any]]:
    """Return the keys of a model as they are written: whether each must be there, and its default."""
    return {_key(name, it): (it.is_required(), it.get_default()) for name, it in model.model_fields.items()}


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _keys(known: Mapping[str, tuple[bool, Any]], meanings: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    if set(known) != set(meanings):
        raise SystemExit(f"docs/reference.py: keys without a meaning, or the other way: {set(known) ^ set(meanings)}")
    rows = ((code(key), *_meant(known[key], *meanings[key])) for key in known)
    yield from table(("key", "default", "wanted", "meaning"), rows)


def _meant(field: tuple[bool, Any], wanted: str, meaning: str) -> tuple[str, str, str]:
    required, default = field
    return "must be there" if required else _default(default, wanted), wanted, meaning


def _default(value: object, unit: str) -> str:
    if isinstance(value, BaseModel):
        value = {}
    if value in (None, "", ()):
        return "none"
    return f"`{value:g}` s" if unit == "duration" and isinstance(value, float) else f"`{value}`"


def _participants() -> Iterator[str]:
    kinds = {"server": project.Server, "client": project.Site, "admin": project.Admin}
    used: dict[str, list[str]] = {}
    fields: dict[str, tuple[bool, Any]] = {"name": (True, None), "type": (True, None)}
    for kind, model in kinds.items():
        for key, it in _fields(model).items():
            used.setdefault(key, []).append(kind)
            fields.setdefault(key, it)
    meanings = {
        key: (
            wanted,
            meaning if len(used.get(key, kinds)) == len(kinds) else f"{meaning} ({', '.join(used[key])} only)",
        )
        for key, (wanted, meaning) in PARTICIPANT.items()
    }
    yield from _keys(fields, meanings)


def _node() -> Iterator[str]:
    """The sample that provisioning writes says default, unit and reason of every setting: it is the source."""
    yield "## node.yaml"
    yield ""
    yield "A server's or a site's `local/node.yaml`. Every key is optional."
    yield ""
    said: dict[str, tuple[str, str, list[str]]] = {}
    for kind in ("server", "site"):
        for line in sample.node(kind).splitlines():
            match = re.fullmatch(r"# (\w+): *(.*?) +# (.+)", line)
            if match:
                said.setdefault(match[1], (match[2], match[3], []))[2].append(kind)
    known = {field.name for field in dataclasses.fields(settings.Settings)}
    if set(said) != known:
        raise SystemExit(f"docs/reference.py: settings without a line in the sample: {known ^ set(said)}")
    rows = (
        (code(key), " and ".join(kinds), code(default) or "the machine's", why)
        for key, (default, why, kinds) in said.items()
    )
    yield from table(("key", "of a", "default", "unit and reason"), rows)


# ---- workflows, Python ---------------------------------------------------------------------------------------------


PARTS: Final = {  # how a paragraph of a workflow's docstring begins, and the heading that it has on the page
    "Equation": "Equation",
    "Use it": "When to use it",
    "Leaves the site": "What leaves the site",
    "Paper": "Paper",
}


def _workflows() -> Iterator[str]:
    yield "# Built-in workflows"
    yield ""
    yield "`workflow:` in a job.yaml names one of these, and `with:` gives its parameters. They are checked at"
    yield "`convoy job check` and at submit. The page of each has the picture of a run. For most"
    yield "that train, this is the accuracy by round of one job on handwritten digits, which are divided very unevenly"
    yield "among ten sites. `make curves` draws them."
    yield ""
    rows = [(f"[`{name}`](workflows/{name}.md)", _told(entry)[""].split("\n\n")[0]) for name, entry in BUILT_IN.items()]
    yield from table(("workflow", "what it does"), rows)
    yield "## What every training workflow takes"
    yield ""
    yield inspect.cleandoc(Training.__doc__ or "")
    yield ""
    yield from _parameters(inspect.signature(Training).parameters.values())


def _workflow(name: str, entry: Entry) -> Iterator[str]:
    told = _told(entry)
    yield f"# {name}"
    yield ""
    yield told[""].replace("those of `Training`", f"those of [`Training`]({TRAINING})")
    yield ""
    for part, heading in PARTS.items():
        yield f"## {heading}"
        yield ""
        text = told[part][0].upper() + told[part][1:]
        yield (
            f"```text\n{told[part]}\n```"
            if part == "Equation"
            else f"Use it {told[part]}"
            if part == "Use it"
            else text
        )
        yield ""
    yield "## Parameters"
    yield ""
    yield from _parameters(entry.own)
    if len(entry.parameters) > len(entry.own):
        yield f"And those that [every training workflow takes]({TRAINING})."
        yield ""
    yield "## A run"
    yield ""
    yield f"![A run of {name}]({name}.png)"
    yield ""
    yield "The job, its data and the parameters of this run are in `docs/curves.py`, under the workflow's name."


def _told(entry: Entry) -> dict[str, str]:
    """Return the parts of a workflow's docstring by how they begin, and under "" what stands before them."""
    found: dict[str, str] = {}
    for paragraph in inspect.cleandoc(entry.function.__doc__ or "").split("\n\n"):
        part, colon, text = paragraph.partition(":")
        if colon and part in PARTS:
            found[part] = inspect.cleandoc(text)
        else:
            found[""] = f"{found['']}\n\n{paragraph}" if found else paragraph
    return found


def _parameters(parameters: Iterable[inspect.Parameter]) -> Iterator[str]:
    rows = [(code(it.name), code(it.annotation), _given(it.default)) for it in parameters]
    if rows:
        yield from table(("parameter", "type", "default"), rows)


def _given(default: object) -> str:
    return "must be given" if default is inspect.Parameter.empty else code(repr(default))


def _python() -> Iterator[str]:
    yield "# Python"
    yield ""
    yield "These names may be imported. Everything else is private and may change."
    yield ""
    yield "## convoy"
    yield ""
    yield "For trainers and workflows. `convoy.config` is job.yaml's `config`; `convoy.data` maps the names in the"
    yield "site's node.yaml to paths."
    yield ""
    for name in sorted(set(convoy.__all__) - {"config", "data"}):
        yield from _thing("convoy", name, getattr(convoy, name))
    yield "## convoy.trees"
    yield ""
    yield from inspect.cleandoc(TREES).splitlines()
    yield ""
    for name in sorted(trees.__all__):
        yield from _thing("convoy.trees", name, getattr(trees, name))
    yield "## convoy.sklearn"
    yield ""
    yield "For trainers that use models of scikit-learn; [an example](../../examples/sklearn_linear/README.md)."
    yield ""
    for name in sklearn.__all__:
        yield from _thing("convoy.sklearn", name, getattr(sklearn, name))
    yield "## convoy.torch"
    yield ""
    yield "For trainers with PyTorch. [Frameworks](../frameworks.md) has callbacks, LoRA, JAX and Keras."
    yield ""
    for name in convoy.torch.__all__:
        yield from _thing("convoy.torch", name, getattr(convoy.torch, name))
    yield "## convoy.keras"
    yield ""
    for name in convoy.keras.__all__:
        yield from _thing("convoy.keras", name, getattr(convoy.keras, name))
    yield "## convoy.admin"
    yield ""
    yield "For programs that use an admin's kit."
    yield ""
    for name in sorted(admin.__all__):
        yield from _thing("convoy.admin", name, getattr(admin, name))
    yield "## convoy.tracking"
    yield ""
    yield from inspect.cleandoc(tracking.__doc__ or "").splitlines()
    yield ""
    for name in sorted(set(tracking.__all__) - {"TBWriter"}):
        yield from _thing("convoy.tracking", name, getattr(tracking, name))


TREES: Final = """
    For trainers of the workflows of trees, and for their models: arrays of nodes, which `model.safetensors` holds.

    `sizes` int32 (trees,) are the nodes of each tree, `group` int32 (trees,) the class that it adds to. For each node:
    `feature` int32, -1 at a leaf; `threshold` float32: a row goes left if its value is smaller; `left` and `right`
    int32: places within the tree; `missing_left` bool: where NaN goes; `value` float32 (nodes, width). `about` int64
    (3,): what the leaves mean, the number of features, the number of outputs.
"""


def _thing(place: str, name: str, thing: Any) -> Iterator[str]:
    yield f"### {place}.{name}"
    yield ""
    if not inspect.isclass(thing):
        yield f"```python\n{name}{_signature(thing)}\n```\n"
    yield inspect.cleandoc(thing.__doc__ or "") if inspect.isclass(thing) else _paragraph(thing)
    yield ""
    if not inspect.isclass(thing):
        return
    if issubclass(thing, tuple):  # a NamedTuple
        yield from table(
            ("field", "type"), ((code(name), code(_type(it))) for name, it in get_type_hints(thing).items())
        )
    elif dataclasses.is_dataclass(thing):
        fields = [it for it in dataclasses.fields(thing) if not it.name.startswith("_") and it.repr]
        yield from table(("field", "type"), ((code(it.name), code(_type(it.type))) for it in fields))
    else:
        found = list(_attributes(thing))
        if found:
            yield from table(("field", "type", "meaning"), found)
    rows = [
        (code(f"{each}{_signature(value)}" if callable(value) else each), _paragraph(value))
        for each, value in vars(thing).items()
        if not each.startswith("_") and (inspect.isfunction(value) or isinstance(value, property | cached_property))
    ]
    if rows:
        yield from table(("method", "what it does"), rows)


def _attributes(kind: type) -> Iterator[tuple[str, str, str]]:
    """Yield what a class's `__init__` gives to its objects with a type: name, type, the comment beside it."""
    for line in inspect.getsource(kind).splitlines():
        match = re.fullmatch(r" {8}self\.([a-z]\w*): ([^=]+) = .*?(?:  # (.+))?", line)
        if match:
            yield code(match[1]), code(match[2]), match[3] or ""


def _signature(function: Callable[..., Any]) -> str:
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return re.sub(r"^\(self(?:, )?", "(", DOTTED.sub(r"\1", text))


def _paragraph(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].replace("\n", " ")


# ---- partitions ----------------------------------------------------------------------------------------------------

PARAMETERS: Final = {  # of partitioners: what a person gives
    "alpha": "a number above 0: the concentration; the smaller it is, the more the sites differ",
    "count": "the number of rows",
    "each": "labels, or shards, of each site",
    "equal": "whether all sites have the same number of rows",
    "exponent": "of the law `power`, a number above 0",
    "ids": "the owner of each row",
    "labels": "the label of each row: whole numbers, words or booleans",
    "law": "`dirichlet`, `lognormal` or `power`",
    "least": "rows that each site has at least",
    "of": "the number of columns, or their names",
    "seed": "a whole number from 0 up; what is drawn at random follows from it alone",
    "shared": "columns that every site has",
    "sigma": "of the law `lognormal`, a number above 0",
    "sites": "the number of sites",
    "strength": "from 0 (IID) to 1 (sorted)",
    "table": "sites x labels: numbers of rows, or shares of a label",
    "times": "the time of each row",
    "values": "one feature, or several, of each row",
}


def _partition() -> Iterator[str]:
    yield "# Partitions"
    yield ""
    yield from inspect.cleandoc(PARTITION).splitlines()
    yield ""
    yield from table(
        ("split", "what it does", "names the column"),
        ((f"[`{name}`](#{name})", _paragraph(it.function), code(it.key) or "none") for name, it in SPLITS.items()),
    )
    for name, split in SPLITS.items():
        yield f"## {name}"
        yield ""
        yield f"```python\n{name}{_signature(split.function)}\n```"
        yield ""
        yield inspect.cleandoc(split.function.__doc__ or "").removesuffix(" Raises `BadInput`.")
        yield ""
        known = inspect.signature(split.function).parameters.values()
        yield from table(
            ("parameter", "default", "meaning"),
            ((code(it.name), _given(it.default), PARAMETERS[it.name]) for it in known),
        )
    yield "## What they return"
    yield ""
    for name in ("Partition", "Table", "Parts"):
        yield from _thing("convoy.partition", name, getattr(partition, name))


PARTITION: Final = """
    Which site holds which rows of a data set, for simulations. `split` in a job's simulate.yaml names one of these
    partitioners ([jobs](../jobs.md#try-a-job-on-one-machine)), and a program calls them as functions:

    ```python
    from convoy import partition

    found = partition.dirichlet(labels, sites=100, alpha=0.3, seed=7)
    found.rows[0]  # the rows of the first site, as a sorted array of int64
    print(found.table())  # rows of each site, in all and of each label; .csv() returns them as CSV
    found.draw("partition.png", title="Digits at 100 sites")  # needs matplotlib
    ```

    In simulate.yaml, the number of sites is that of the simulation, and `seed` follows from the job's by default. A key
    names the first parameter: `label`, `id`, `time`, `feature` or `columns`, with the name of a column of a CSV or
    parquet file, or of an array of an npz file. An npy file is one array and needs no name. `feature` may be a list of
    columns. `columns` names the array whose columns are divided; the other arrays go to every site. CSV and parquet
    files need no `columns`. `label` may stand beside each partitioner of rows: labels are then counted in
    `partition-NAME.csv`. `natural` and `given` also say how many sites there are, where nobody else does.

    A partition does not change rows: a trainer that wants feature skew by noise (Li et al. 2022, section 4.3) adds the
    noise itself.
"""


# ---- errors, states ------------------------------------------------------------------------------------------------


def _errors() -> Iterator[str]:
    yield "# Errors and exit codes"
    yield ""
    yield "Every command ends with one of these. An error prints up to three lines on standard error: what failed, why,"
    yield "and what to do next. `0` is success, `130` is Ctrl-C."
    yield ""
    yield "```text"
    yield inspect.cleandoc(errors.__doc__ or "").split("\n\n", 1)[1]
    yield "```"
    yield ""
    kinds = [it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, errors.ConvoyError)]
    yield from table(
        ("error", "exit code", "HTTP status", "when"),
        ((code(it.__name__), it.exit_code, faults.STATUS[it], _paragraph(it)) for it in kinds if it in faults.STATUS),
    )


def _states() -> Iterator[str]:
    yield "# States"
    yield ""
    yield "Drawn from the tables in `src/convoy/control/transitions.py`. Any other move is an error."
    yield ""
    lives = (
        ("A job", transitions.JOB, "`convoy job list` shows it. It has ended in `completed`, `failed` or `aborted`."),
        ("A member", transitions.MEMBER, "A site in a job, as `convoy job show` lists it."),
        (
            "A task",
            transitions.TASK,
            "One question of a workflow at one site. Its id is (job, question, site) and never changes.",
        ),
    )
    for title, moves, said in lives:
        yield f"## {title}"
        yield ""
        yield said
        yield ""
        yield "```mermaid"
        yield "stateDiagram-v2"
        yield f"    [*] --> {next(iter(moves))}"
        for state, following in moves.items():
            yield from (f"    {state} --> {after}" for after in following)
            if not following:
                yield f"    {state} --> [*]"
        yield "```"
        yield ""


# ---- limits --------------------------------------------------------------------------------------------------------

# What comes in from outside, from whom, and the constants that bound it: the reason of each is the comment beside it.
# A constant called MAX_… that stands in no row stops the script.
INPUTS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    (
        "a connection to 8002",
        "anybody",
        (
            "wire.door.HANDSHAKE_S",
            "wire.door.HANDSHAKES",
            "wire.door.BACKLOG",
            "wire.door.COMERS",
            "wire.door.MAX_ORIGINS",
        ),
    ),
    ("questions of a workflow that are measured", "a job", ("server.observer.MAX_BEGUN",)),
    ("connections of a site", "a site", ("server.sessions.MAX_CONNECTIONS", "server.sessions.KEEP_S")),
    ("a connection's first message", "a site", ("wire.frames.MAX_FIRST", "server.sessions.OPENING")),
    (
        "a message",
        "a site, a server, a worker",
        ("wire.frames.MAX_FRAME", "wire.frames.MAX_BARE", "wire.stream.SILENCE_S"),
    ),
    (
        "the rate of messages",
        "a site, a server, a worker, a pod",
        (
            "server.sessions.SITE",
            "server.sessions.PINGS",
            "server.sessions.RENEWALS",
            "server.sessions.TRANSFER",
            "server.flows.WORKFLOW",
            "site.line.SERVER",
            "site.trainer.TRAINER",
            "pods.worker.POD",
            "pods.runner.NODE_SAYS",
            "wire.budget.PATIENCE_S",
            "wire.budget.REST_S",
        ),
    ),
    ("transfers at a time", "a site", ("wire.pump.QUICK", "wire.pump.OF_ONE")),
    (
        "what a site reports about itself",
        "a site",
        ("server.sessions.MAX_JOBS", "server.sessions.MAX_VERSION", "server.sessions.MAX_MEMORY"),
    ),
    ("the length of a log that a server reports", "a server", ("site.agent.MAX_OFFSET",)),
    (
        "messages that wait for a node that does not read",
        "a site, a server",
        ("wire.send_queue.MAX_UNREAD", "wire.send_queue.MAX_UNREAD_BYTES"),
    ),
    ("messages that wait for a worker that does not read", "a worker", ("node.launcher.MAX_UNREAD",)),
    (
        "messages that wait between a node and a pod",
        "a pod",
        ("pods.worker.MAX_UPS", "pods.runner.MAX_WORDS", "pods.link.MAX_UNNAMED"),
    ),
    ("a pull", "a site", ("server.judging.MAX_RANGES",)),
    (
        "an update",
        "a site",
        ("wire.values.MAX_METRICS", "wire.values.MAX_NAME", "wire.values.MAX_BYTES", "server.transfers.MAX_TRIES"),
    ),
    (
        "the header of a model or an update",
        "a site, a server, a job",
        (
            *("model.blob.MAX_HEADER", "model.blob.MAX_TENSORS", "model.blob.MAX_RANK", "model.blob.MAX_BYTES"),
            *("model.blob.MAX_LISTS", "model.blob.MAX_KEYS", "model.blob.MAX_COMMAS", "model.blob.MAX_NAME"),
            "model.blob.MAX_SPAN",
        ),
    ),
    ("processes of a job", "a job", ("worker.confine.MAX_PROCESSES",)),
    (
        "files that a job leaves",
        "a job",
        ("site.artifacts.MAX_FILES", "pods.artifacts.MAX_FILES", "node.leftovers.MAX_DEPTH"),
    ),
    (
        "artifacts that are sent to the server",
        "a job, a site",
        (
            *("wire.package.MAX_FILES", "wire.package.MAX_PATH", "wire.package.MAX_NAME", "wire.package.MAX_LIST"),
            *("wire.package.FIRST_S", "wire.package.SLOWEST", "server.artifacts.MAX_FILES"),
        ),
    ),
    ("log lines of a job", "a job", ("node.capped.MAX_LOG", "node.lines.MAX_LINE", "server.logs.PIECE")),
    (
        "live metrics of a job",
        "a job, a site",
        (
            *("control.points.MAX_VALUES", "control.points.MAX_KEY", "control.points.MAX_STEP"),
            *("control.points.MAX_POINTS", "store.points.MAX_FILE", "store.points.PIECE", "worker.batch.VALUES_S"),
            *("site.trainer.POINTS", "server.flows.POINTS", "site.points.SENT", "admin.live.MAX_PATTERN"),
        ),
    ),
    (
        "what goes to experiment trackers, and what they say",
        "a job, an experiment tracker",
        (
            *("trackers.events.MAX_PARAMS", "trackers.events.MAX_TEXT", "trackers.events.MAX_NAME"),
            *("trackers.tensorboard.MAX_STATE", "trackers.wandblog.MAX_RECORD", "trackers.wandblog.MAX_DIGITS"),
            "trackers.wandb.MAX_TAG",
            *("trackers.service.MAX_LINE", "server.tracking.MAX_LINE", "server.tracking.MAX_UNREAD"),
        ),
    ),
    ("an error of a job", "a job, a site", ("worker.code.LINE", "worker.code.TRACEBACK", "control.jobs.MAX_TRACEBACK")),
    (
        "a job whose handling fails at a node",
        "a job",
        (
            "control.faults.MAX_FAULTS",
            "control.faults.MAX_TRACEBACK",
            "site.quarantine.MAX_FAULTS",
            "site.quarantine.MAX_JOBS",
        ),
    ),
    (
        "statistics of a table",
        "a job, a site",
        (
            "flows.statistics.MAX_BINS",
            "flows.statistics.MAX_COLUMNS",
            "flows.fitting.MAX_TERMS",
            "flows.fitting.MAX_STEPS",
            "flows.kmeans.MAX_CLUSTERS",
            "flows.survival.MAX_GROUPS",
            "flows.pooled.MAX_COUNT",
            "flows.pooled.MAX_VALUE",
            "flows.pooled.MAX_SQUARE",
            "privacy.cells.MAX_PARTS",
            "spec.tables.MAX_DIGITS",
            "privacy.cells.LARGEST",
            "worker.statistics.MAX_VALUES",
            "worker.statistics.MAX_CELLS",
        ),
    ),
    (
        "trees and their sums",
        "a site, a server",
        (
            *("model.trees.MAX_DEPTH", "model.trees.MAX_TREES", "model.trees.MAX_NODES", "model.trees.MAX_VALUE"),
            *("flows.forests.MAX_FOREST_NODES", "flows.boosting.MAX_SUM", "flows.boosting.MAX_TOTAL"),
            "flows.boosting.MAX_LEVEL",
            *("flows.boosting.MAX_ROWS", "model.splits.MAX_LABEL"),
        ),
    ),
    ("a worker that dies", "a job", ("control.jobs.MAX_DEATHS", "site.trainer.MAX_TRIES")),
    (
        "a question of a workflow",
        "a job",
        (
            "wire.values.MAX_KIND",
            "wire.values.MAX_SITES",
            "wire.values.MAX_NUMBER",
            "control.json_values.MAX_JSON",
            "control.json_values.MAX_DEPTH",
            "model.reply.MAX_SLOTS",
            "model.reply.MAX_DIMENSIONS",
            "model.reply.MAX_LENGTH",
            "model.reply.MAX_NAME",
        ),
    ),
    (
        "a connection to 8003",
        "anybody",
        ("admin.connections.REQUEST_S", "admin.connections.WAITING", "wire.door.HANDSHAKE_S", "wire.door.BACKLOG"),
    ),
    ("the head of a request", "anybody", ("admin.serve.MAX_HEAD",)),
    (
        "requests of people",
        "a person",
        (
            "admin.admission.MAX_REQUESTS",
            "admin.admission.MAX_OF_ONE",
            "admin.admission.OPERATORS",
            "admin.admission.PERSON",
            "admin.admission.MAX_KNOWN",
            "admin.route.UPLOADS",
            "admin.route.UPLOADS_KEPT",
            "admin.streams.QUEUE",
        ),
    ),
    (
        "requests of people who have not logged in",
        "anybody",
        ("admin.admission.MAX_STRANGERS", "admin.admission.MAX_OF_ORIGIN", "admin.admission.STRANGER"),
    ),
    (
        "the body of a request",
        "anybody",
        ("admin.reading.MAX_BODY", "admin.reading.SILENCE_S", "admin.reading.BODY_S", "admin.reading.SLOWEST"),
    ),
    (
        "a list of jobs or rounds",
        "a person",
        (
            *(
                "admin.routes.MAX_SITES",
                "admin.routes.MAX_WORD",
                "server.reading.MAX_JOBS",
                "server.reading.MAX_ROUNDS",
                "server.reading.NEWEST",
            ),
            *(
                "server.views.SHOWN_SITES",
                "server.views.SHOWN_NEWEST",
                "server.views.SHOWN_WAITING",
                "server.views.SHOWN_CAUSE",
            ),
            "store.history.PAGE_BYTES",
        ),
    ),
    (
        "a search in the audit trail",
        "a person",
        ("admin.live.PAGE", "admin.live.MAX_PAGE", "admin.live.MAX_SOUGHT", "store.trail.LOOKED_AT"),
    ),
    (
        "a request to the dashboard",
        "a browser",
        (
            *("dashboard.serve.MAX_HEAD", "dashboard.route.MAX_FORM"),
            *("dashboard.route.MAX_FIELDS", "dashboard.route.MAX_SEARCH", "dashboard.paging.MAX_PAGE"),
            *("dashboard.streams.MAX_STREAMS", "dashboard.news.MAX_SENTENCES"),
            *("dashboard.people.MAX_PAGE", "dashboard.audit.MAX_SEQ", "dashboard.invites.MAX_OFFERED"),
            "dashboard.invites.MAX_SHOWN",
        ),
    ),
    (
        "a folder that is uploaded to the dashboard",
        "a browser",
        (
            *("dashboard.drafts.MAX_UPLOAD", "dashboard.drafts.MAX_LIST", "dashboard.drafts.MAX_DRAFTS"),
            *("dashboard.submit.MAX_FILES", "dashboard.submit.MAX_FINDINGS", "dashboard.submit.MAX_SHOWN"),
            "dashboard.submit.MAX_PATH",
        ),
    ),
    (
        "the pages of a job",
        "a server, a job",
        (
            *("dashboard.feed.MAX_ENTRIES", "dashboard.feed.MAX_METRICS", "dashboard.watching.MAX_NOTICED"),
            *("dashboard.histories.MAX_JOBS", "dashboard.histories.MAX_ROUNDS", "dashboard.curves.MAX_POINTS"),
            *(
                "dashboard.curves.MAX_CHARTS",
                "dashboard.curves.MAX_NAME",
                "dashboard.series.MAX_PLACES",
                "dashboard.series.MAX_CURVES",
            ),
            *("dashboard.logs.MAX_LINES", "dashboard.logs.MAX_CHARACTERS", "dashboard.rounds.MAX_NUMBER"),
            *("dashboard.results.MAX_PAGE", "dashboard.results.MAX_ROWS"),
            *("dashboard.results.MAX_TABLES", "dashboard.results.MAX_HEAT", "dashboard.results.MAX_BARS"),
            *("dashboard.bundles.MAX_KEPT", "dashboard.files.MAX_PAGE", "dashboard.files.MAX_BYTES"),
            *("dashboard.files.MAX_LINES", "dashboard.files.MAX_NAME", "dashboard.compare.MAX_ROWS"),
            *("dashboard.compare.MAX_VALUE", "dashboard.compare.MAX_CHARTS"),
        ),
    ),
    (
        "the last hour as the dashboard remembers it",
        "a server",
        ("dashboard.strips.MAX_CHANGES", "dashboard.strips.MAX_COUNTS"),
    ),
    (
        "how sites were, as a server remembers it",
        "a site",
        ("admin.changes.MAX_CHANGES", "server.attendance.SPAN_S"),
    ),
    (
        "looks of a dashboard at its server",
        "a server, a person",
        ("server.following.PAUSE_S", "server.following.QUIET_S", "dashboard.federation_state.PAUSE_S"),
    ),
    (
        "the history that a site keeps of its jobs",
        "a job",
        (
            *("site.history.MAX_BYTES", "site.history.MAX_LINE", "site.history.MAX_TEXT", "site.history.MAX_NAME"),
            *("site.history.MAX_ITEMS", "site.history.MAX_REASON", "site.bundles.MAX_KEPT"),
        ),
    ),
    (
        "what the dashboard shows a site's owner",
        "a job",
        (
            *("owner.differences.MAX_FILE", "owner.differences.MAX_SHOWN", "owner.differences.MAX_LINES"),
            *("owner.differences.MAX_WIDTH", "owner.differences.MAX_COMPARED", "owner.differences.MAX_WORK"),
            *("owner.standing.MAX_ANSWER", "owner.standing.MAX_TAIL", "owner.standing.MAX_PROBLEMS"),
            *("owner.standing.MAX_FILES", "dashboard.own_jobs.MAX_ANSWERS", "dashboard.own_jobs.MAX_DAYS"),
            *("dashboard.consents.MAX_NOTE", "dashboard.rules.MAX_PLACE"),
        ),
    ),
    ("the history of a workflow", "a workflow", ("server.flows.PAGE", "store.history.PAGE_BYTES")),
    ("logins", "anybody", ("admin.logins.NONCE_S", "admin.logins.BEARER_S", "admin.logins.MAX_BEARERS")),
    ("a login's certificate and signature", "anybody", ("trust.login.MAX_CHARACTERS",)),
    ("certificates", "anybody", ("trust.authority.MAX_PEM", "trust.peers.LONGEST", "site.identity.MAX_CERTIFICATE")),
    ("a join token", "anybody", ("trust.enrolment.TOKEN_DAYS", "store.ledger.AGAIN_S")),
    ("a certificate request", "anybody", ("trust.enrolment.MAX_CSR",)),
    (
        "a request to the signer, and its answer",
        "a server",
        ("trust.signer.AHEAD_S", "trust.signer.MAX_WORDS", "trust.issuing.ANSWER_S", "trust.issuing.START_S"),
    ),
    (
        "records of one actor in the audit trail",
        "anybody",
        ("server.auditor.SOME", "server.auditor.OFTEN", "server.auditor.MANY", "server.auditor.WINDOW_S"),
    ),
    ("texts in the audit trail", "anybody", ("server.auditor.MAX_TEXT",)),
    (
        "a bundle",
        "a submitter",
        (
            "trust.bundle.MAX_BYTES",
            "trust.bundle.MAX_FILES",
            "trust.bundle.MAX_ENVELOPE",
            "trust.bundle.MAX_LISTS",
            "trust.bundle.MAX_DAYS",
            "trust.bundle.MAX_TIME",
            "trust.bundle.SKEW_S",
            "site.intake.MAX_BUNDLE",
        ),
    ),
    ("file names in a bundle", "a submitter", ("trust.paths.MAX_PATH", "trust.paths.MAX_PART")),
    ("Python code that is checked before it runs", "a submitter", ("flows.source.MAX_PYTHON", "flows.source.MAX_READ")),
    (
        "every YAML file",
        "a submitter, a kit's owner",
        ("spec.yamls.MAX_BYTES", "spec.yamls.MAX_DEPTH", "spec.yamls.MAX_VALUES", "spec.yamls.MAX_DIGITS"),
    ),
    (
        "federation.json",
        "a person, a server",
        (
            "trust.federation.MAX_BYTES",
            "trust.federation.MAX_PARTICIPANTS",
            "trust.federation.MAX_ROOTS",
            "trust.federation.MAX_RETIRED",
        ),
    ),
    ("invites.json", "a kit's owner", ("trust.enrolment.MAX_INVITES",)),
    ("an entry of the audit trail", "a server", ("trust.audit.MAX_LINE", "trust.audit.MAX_NUMBER")),
    ("checkpoints that a site keeps", "a server", ("site.checkpoints.MAX_BYTES", "site.checkpoints.DENSE")),
    ("an answer of a cluster to a node", "a cluster", ("pods.api.MAX_ANSWER",)),
    (
        "the pod of a worker",
        "a job",
        ("pods.worker.CREDENTIAL_S", "pods.objects.LONGEST_S", "pods.objects.LONG", "wire.stream.SILENCE_S"),
    ),
    (
        "a time or a size that somebody writes",
        "a submitter, an owner",
        ("spec.units.MAX_DURATION_S", "spec.units.MAX_SIZE"),
    ),
    ("what a job requests from a node", "a submitter", ("spec.job.MAX_AMOUNT",)),
    ("an image that a job names", "a submitter", ("spec.job.MAX_IMAGE",)),
    ("the seed of a job", "a submitter", ("spec.job.MAX_SEED",)),
    ("an answer of the server to a person", "a server", ("admin.link.MAX_ANSWER", "admin.link.MAX_LINE")),
    ("an error of the server to a person", "a server", ("admin.faults.MAX_BYTES", "admin.faults.MAX_LINE")),
    ("a value in an answer of the server", "a server", ("admin.parsing.MAX_NUMBER", "admin.parsing.MAX_SHOWN")),
    (
        "the results of a job",
        "a server",
        (
            "admin.download.MAX_FILES",
            "admin.findings.MAX_BYTES",
            "admin.findings.MAX_NODES",
            "admin.findings.MAX_PICTURES",
            "admin.findings.MAX_LINES",
        ),
    ),
    ("a list of jobs", "a server", ("admin.pages.MAX_JOBS",)),
    ("a server that does not answer a person", "a server", ("admin.link.CONNECT_S", "admin.link.READ_S")),
    ("a server that does not answer a site", "a server", ("wire.dial.DIAL_S",)),
    ("an answer of a proxy", "a proxy", ("wire.proxy.MAX_ANSWER",)),
    (
        "a kit for the volume of `kits: volume`",
        "the person who runs `up`",
        ("kube.unpack.MAX_FILES", "kube.unpack.MAX_BYTES"),
    ),
    ("a wait for readiness at 8004", "anybody on the machine", ("wire.health.LONGEST_S",)),
)
CONSTANT: Final = re.compile(r"^([A-Z]\w*)(?:: Final)? = ([^#\n]+?)(?:  # (.+))?$", re.MULTILINE)


def _limits() -> Iterator[str]:
    yield "# Limits"
    yield ""
    yield "Every input from outside is checked against a limit before it is parsed. This table lists each input, who"
    yield "sends it, and the limits on it. A number without a unit is a count. A `Rate` has the number of messages a"
    yield "second, the number of bytes a second, and the number of seconds' worth that may come at once."
    yield ""
    found = {name: row for file in sorted(SOURCE.rglob("*.py")) for name, row in _constants(file).items()}
    named = [name for _, _, names in INPUTS for name in names]
    unnamed = {name for name in found if name.rpartition(".")[2].startswith("MAX_")} - set(named)
    unknown = [name for name in named if not found.get(name, ("", ""))[1]]
    if unnamed or unknown:
        raise SystemExit(
            f"docs/reference.py: limits without an input: {unnamed}; without a value or a reason: {unknown}"
        )
    rows = ((what, who, code(name), *found[name]) for what, who, names in INPUTS for name in names)
    yield from table(("input", "sent by", "limit", "value", "meaning and reason"), rows)


def _constants(file: Path) -> dict[str, tuple[str, str]]:
    """Return a module's constants by their names within the package: value and reason."""
    module = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    return {f"{module}.{name}": (_amount(name, value), why) for name, value, why in CONSTANT.findall(file.read_text())}


def _amount(name: str, written: str) -> str:
    """Return a constant's value as people read it; `1 << 20` in the code means bytes."""
    if name.endswith("_S") and re.fullmatch(r"[\d.]+", written):
        return f"{float(written):g} s"
    if match := re.fullmatch(r"(\d+) << (\d+)", written):
        size = int(match[1]) << int(match[2])
        unit, shift = next(it for it in (("TiB", 40), ("MiB", 20), ("KiB", 10)) if size >= 1 << it[1])
        return f"{size >> shift} {unit}"
    return written.replace("_", ",") if written.replace("_", "").isdigit() else code(written)


def main() -> None:
    """Write every page."""
    (FOLDER / "workflows").mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
