"""A federation as a Helm chart: the objects of `render`, with what differs from cluster to cluster as values."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.alias_generators import to_camel

import convoy
from convoy.errors import BadInput
from convoy.kube.contents import AGENT, Contents
from convoy.kube.naming import PARTICIPANT, Place, slug
from convoy.kube.objects import Object, objects
from convoy.kube.options import Node, Options
from convoy.kube.text import to_yaml
from convoy.spec import yamls
from convoy.spec.project import Participant, Project, Server

MARK: Final = "convoy/chart"  # the annotation of Chart.yaml that says: ours to write anew
OLDEST: Final = "1.21"  # that serves everything in a chart
_ALL: Final = ("image", "image_pull_policy", "storage_class", "create_namespace")
_FIXED: Final = ("data", "launcher", "jobs")  # a volume, a port or a Role more is another pod
_EACH: Final = tuple(name for name in Node.model_fields if name not in _FIXED)
_PRIVATE: Final = range(0xE000, 0xF8FF)  # characters that mean nothing to anybody
_HELPERS: Final = """\
{{/* What a pod's limits leave to jobs, as node.yaml says it: the same sums as those of `convoy kube render`. */}}
{{- define "convoy.cpu" -}}
{{- $cores := ternary (divf (trimSuffix "m" . | float64) 1000.0) (float64 .) (hasSuffix "m" .) -}}
{{- regexReplaceAll "(\\\\.[0-9]+?)0+$" (printf "%.6f" $cores) "${1}" -}}
{{- end -}}
{{- define "convoy.memory" -}}
{{- $units := dict "" 1 UNITS -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $limit := mulf $number (get $units (trimPrefix $number .)) | floor | int64 -}}
{{- max (sub $limit AGENT) (div $limit 2) -}}
{{- end -}}
"""
_JOBS: Final = {
    "cpu": '{{ include "convoy.cpu" $node.cpuLimit }}',
    "memory": '{{ include "convoy.memory" $node.memoryLimit }}',
    "gpu": "{{ $node.gpu | int }}",
}
_README: Final = """\
# {name}

The federation {name}, written by `convoy kube chart`. The participants, the namespace and the server's names are part
of certificates: for another project.yml, write the chart again. What may differ is in values.yaml, and
values.schema.json refuses everything else.

    helm upgrade --install {release} FOLDER

"""
_NOTES: Final = """\
The Secrets NAME-kit, one for each participant, are in no chart: join tokens, and the server's issuing key. Pods wait
for them. Where all that a cluster gets is kept in git, seal what the first command prints.

    convoy kube render --kits-alone | kubectl apply -f -

- Objects are in {namespaces}, whatever --namespace says: that is where the release is noted.
- A kit that changes restarts nobody: kubectl rollout restart statefulset NAME.
- `helm uninstall` leaves namespaces, volumes and kits; the next install goes on with them.
- `storage` and `storageClass` are of new volumes: a StatefulSet that is there cannot change them.
- A limit of CPU, memory or GPUs is also what jobs may take, unless the owner's local/node.yaml says it.
- What Helm made is Helm's: `convoy kube up`, `status` and `down` are for what `convoy kube up` made.
"""


def chart(project: Project, options: Options, kits: Mapping[str, Contents]) -> dict[str, str]:
    """Return the files of a chart, by path: with its own values, it is `objects` of the same without a Secret.

    Raises `BadInput` as `objects` does.
    """
    if options.kits == "volume":
        raise BadInput(
            "a chart cannot fill a volume with kits", why="kits: volume", fix="kits: secrets, or convoy kube up"
        )
    place = Place(project, options.model_copy(update={"create_namespace": True}))  # whether is a value
    named = {slug(one.name): one for one in (project.server, *project.sites)}
    kits = {name: Contents(its.local) for name, its in kits.items()}
    texts = {"federation": "", **{f"nodes/{name}": _choice(one) for name, one in named.items()}}
    for it in objects(project, place.options, kits):
        its = named.get(it["metadata"]["labels"].get(PARTICIPANT, ""))
        text = _template(it, its if its is not None and place.node(its).launcher == "processes" else None, kits)
        if it["kind"] == "Namespace":
            text = f"{{{{- if .Values.createNamespace }}}}\n{text}{{{{- end }}}}\n"
        texts[f"nodes/{slug(its.name)}" if its else "federation"] += text
    said = {"name": project.name, "release": slug(project.name), "namespaces": ", ".join(place.namespaces)}
    notes = _NOTES.format_map(said)
    return {
        "Chart.yaml": _one(_about(project)),
        "README.md": _README.format_map(said) + notes,
        "values.yaml": "# What may differ; README.md explains it.\n" + _one(_values(project, options)),
        "values.schema.json": json.dumps(_schema(project), indent=2) + "\n",
        "templates/_helpers.tpl": _helpers(),
        "templates/NOTES.txt": notes.replace("{{", '{{ "{{" }}'),
        **{f"templates/{name}.yaml": text for name, text in texts.items()},
    }


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write a chart into a folder that is empty or holds an older one of ours, of which nothing else stays.

    Raises `BadInput` for any other folder, and where it cannot be written.
    """
    about = folder / "Chart.yaml"
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (about.is_file() and MARK in about.read_text()):
            raise BadInput(
                f"{folder} contains something other than a chart that Convoy wrote",
                fix="name a folder that is empty or does not exist",
            )
        for old in (folder / "templates").rglob("*.yaml"):
            old.unlink()
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    except OSError as problem:
        raise BadInput(
            f"{folder} cannot be written", why=str(problem), fix="choose another folder with -o"
        ) from problem


def _one(it: Object) -> str:
    return to_yaml([it]).removeprefix("---\n")


def _about(project: Project) -> Object:
    return {
        "apiVersion": "v2",
        "name": slug(project.name),
        "description": project.description or f"The federation {project.name}",
        "type": "application",
        "version": convoy.__version__,
        "appVersion": convoy.__version__,
        "kubeVersion": f">={OLDEST}.0-0",
        "annotations": {MARK: project.name},
    }


def _values(project: Project, options: Options) -> Object:
    """Return the values that stand for the options."""
    place = Place(project, options)

    def each(participant: Participant) -> Object:
        return {to_camel(name): it for name, it in place.node(participant).model_dump().items() if name in _EACH}

    whole = options.model_dump()
    return {
        **{to_camel(name): whole[name] for name in _ALL},
        "server": each(project.server),
        "sites": {site.name: each(site) for site in project.sites},
    }


def _schema(project: Project) -> Object:
    """Return what values may be: as the options, and nothing that is not one."""
    node = _only(Node.model_json_schema()["properties"], _EACH)
    own = {"$ref": "#/definitions/node"}
    whole = _only(Options.model_json_schema()["properties"], _ALL)
    properties = {
        **whole["properties"],
        "server": own,
        "sites": _closed({site.name: own for site in project.sites}),
    }
    properties["image"] = {**properties["image"], "minLength": 1}
    made = _closed(properties)
    made["properties"] = {**properties, "global": {"type": "object"}}  # what Helm gives every chart inside another
    return {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"node": node}, **made}


def _only(properties: Mapping[str, Any], names: tuple[str, ...]) -> Object:
    said = {
        name: {key: it for key, it in properties[name].items() if key not in ("title", "default")} for name in names
    }
    return _closed({to_camel(name): it for name, it in said.items()})


def _closed(properties: Mapping[str, Any]) -> Object:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": dict(properties),
    }


def _helpers() -> str:
    units = " ".join(
        f'"{prefix}{infix}" {base**power}'
        for power, prefix in enumerate("kMGTP", 1)
        for base, infix in ((1000, ""), (1024, "i"))
    ).replace('"ki"', '"Ki"')
    return _HELPERS.replace("UNITS", units).replace("AGENT", str(AGENT))


def _choice(participant: Participant) -> str:
    """Return the line that says which part of the values a file of templates is about."""
    where = (
        ".Values.server" if isinstance(participant, Server) else f"index .Values.sites {json.dumps(participant.name)}"
    )
    return f"{{{{- $node := {where} }}}}\n"


class _Marks:
    """Places in an object where a template has an expression; a mark is in no text that people wrote."""

    def __init__(self, it: Object) -> None:
        text = to_yaml([it])
        self.sign = next(chr(code) for code in _PRIVATE if chr(code) not in text)
        self.said: list[str] = []

    def __call__(self, expression: str) -> str:
        """Return what stands for an expression, as a value, in a text, or as the key of lines that may be left out."""
        self.said.append(expression)
        return f"{self.sign}{len(self.said) - 1}{self.sign}"

    def lines(self, condition: str, body: str) -> dict[str, None]:
        """Return a key that stands for lines that are there if a condition is; `INDENT` in them: their own, and 2."""
        return {self(f"{{{{- {condition} }}}}\n{body}\n{{{{- end }}}}"): None}

    def written(self, it: Object) -> str:
        """Return an object as a template: marks become their expressions, and foreign braces mean themselves."""
        text = to_yaml([it]).replace("{{", '{{ "{{" }}')
        sign = re.escape(self.sign)
        text = re.sub(rf"^( *){sign}(\d+){sign}: null$", self._lines, text, flags=re.MULTILINE)
        return re.sub(rf"{sign}(\d+){sign}", lambda found: self.said[int(found[1])], text)

    def _lines(self, found: re.Match[str]) -> str:
        lines = self.said[int(found[2])].replace("INDENT", str(len(found[1]) + 2)).splitlines()
        return "\n".join(found[1] + line for line in lines)


def _template(it: Object, its: Participant | None, kits: Mapping[str, Contents]) -> str:
    it, marks = copy.deepcopy(it), _Marks(it)
    if it["kind"] == "StatefulSet":
        _open_set(it["spec"], marks)
    if it["kind"] == "ConfigMap" and its is not None and not isinstance(its, Server):
        local = kits.get(its.name, Contents()).local.get("node.yaml", "")
        _open_config(it["data"], yamls.load(local, name="node.yaml").mapping(), marks)
    return marks.written(it)


def _open_set(spec: Object, marks: _Marks) -> None:
    """Put expressions into a StatefulSet where its values are to stand."""
    pod, (claim,) = spec["template"]["spec"], spec["volumeClaimTemplates"]
    (container,) = pod["containers"]
    container["image"] = marks("{{ $node.image | default .Values.image | quote }}")
    container["imagePullPolicy"] = marks("{{ .Values.imagePullPolicy }}")
    resources = container["resources"]
    resources["requests"] |= {name: marks(f"{{{{ $node.{name} | quote }}}}") for name in ("cpu", "memory")}
    resources["limits"] |= {name: marks(f"{{{{ $node.{name}Limit | quote }}}}") for name in ("cpu", "memory")}
    resources["limits"].pop("nvidia.com/gpu", None)
    resources["limits"] |= marks.lines("if $node.gpu", "nvidia.com/gpu: {{ $node.gpu | int | quote }}")
    for name in ("nodeSelector", "tolerations"):
        pod.pop(name, None)
        pod |= marks.lines(f"with $node.{name}", f"{name}:\n  {{{{- toYaml . | nindent INDENT }}}}")
    claim["spec"]["resources"]["requests"]["storage"] = marks("{{ $node.storage | quote }}")
    claim["spec"].pop("storageClassName", None)
    claim["spec"] |= marks.lines("with .Values.storageClass", "storageClassName: {{ . | quote }}")


def _open_config(data: dict[str, str], owner: Mapping[str, Any], marks: _Marks) -> None:
    """Let a site's node.yaml follow its pod's limits, in all that its owner did not write there."""
    for name, expression in _JOBS.items():
        if name not in owner:
            data["node.yaml"] = re.sub(rf"(?m)^{name}: .*$", f"{name}: {marks(expression)}", data["node.yaml"])
