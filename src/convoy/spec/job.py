"""job.yaml: what a job is made of, as frozen checked data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from blake3 import blake3
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from convoy.errors import BadInput, Refused
from convoy.spec import names, yamls
from convoy.spec.fields import Duration, Size

MAX_AMOUNT: Final = 1e6  # cores or GPUs: no machine has as many
MAX_SEED: Final = 128  # characters
MAX_IMAGE: Final = 512  # characters: a registry, a path of 255 and a digest


def _no_repeats(sites: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the sites as they are. Raises `ValueError` if one stands twice, or none at all."""
    if sites is not None and (not sites or len(set(sites)) < len(sites)):
        raise ValueError("a list of different sites; for all sites, remove this line")
    return sites


def _seed(value: Any) -> str:
    """Return a seed as text."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise ValueError("a whole number or a text")


class Resources(BaseModel):
    """What a job takes of each node that runs it while it runs; memory is bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    cpu: float = Field(0.0, ge=0, le=MAX_AMOUNT)
    memory: Size = 0
    gpu: float = Field(0.0, ge=0, le=MAX_AMOUNT)


class Job(BaseModel):
    """One job as its author wrote it; times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True, validate_by_alias=True)

    name: Annotated[str, AfterValidator(names.word)]
    workflow: str = Field("fedavg", min_length=1)
    with_: dict[str, Any] = Field({}, alias="with")
    trainer: str = ""  # empty: Convoy's own, for questions about tables
    config: dict[str, Any] = {}
    model: str | None = Field(None, min_length=1)
    seed: Annotated[str, BeforeValidator(_seed), Field(max_length=MAX_SEED)] = ""  # empty: from the files of the job
    patience_s: Annotated[Duration, Field(gt=0)] = Field(600.0, alias="patience")
    resources: Resources = Resources()
    image: str | None = Field(None, min_length=1, max_length=MAX_IMAGE, pattern=r"^[\x21-\x7e]+$")
    sites: Annotated[
        tuple[Annotated[str, AfterValidator(names.word)], ...] | None,
        Field(strict=False),
        AfterValidator(_no_repeats),
    ] = None

    def to_json(self) -> str:
        """Return the job as JSON that `from_json` reads back to an equal job."""
        return self.model_dump_json(by_alias=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return the job that `to_json` wrote. Raises `BadInput` for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInput("not a stored job", why=str(error)) from error


def text_of(files: Mapping[str, bytes | bytearray | memoryview]) -> str:
    """Return the text of a bundle's job.yaml. Raises `Refused` if it has none, or one that is not text."""
    if "job.yaml" not in files:
        raise Refused("the bundle has no job.yaml", fix="submit a job folder; `convoy job new` writes one")
    try:
        return bytes(files["job.yaml"]).decode()
    except UnicodeDecodeError as problem:
        raise Refused("the bundle's job.yaml is not UTF-8", why=str(problem), fix="save it as UTF-8 text") from problem


def read_bundle(files: Mapping[str, bytes | bytearray | memoryview]) -> tuple[Job, yamls.Document]:
    """Return the job of a bundle's files and the document it stands in.

    A job without a seed of its own gets one from its files, so that the same folder gives the same model whenever and
    wherever it runs. Raises `BadInput`, `Refused`.
    """
    job, document = read_job_document(text_of(files), "job.yaml")
    return (job if job.seed else job.model_copy(update={"seed": _contents(files)})), document


def _contents(files: Mapping[str, bytes | bytearray | memoryview]) -> str:
    """Return a digest of names and contents, whatever their order."""
    listed = [[name, blake3(files[name]).hexdigest()] for name in sorted(files)]
    return blake3(json.dumps(listed).encode()).hexdigest()


def read_job(text: str, name: str) -> Job:
    """Return the job that a job.yaml's text describes; `name` is the file's, for messages. Raises `BadInput`."""
    return read_job_document(text, name)[0]


def read_job_document(text: str, name: str) -> tuple[Job, yamls.Document]:
    """Return the job and the document it stands in, so that later checks can point at lines too."""
    document = yamls.load(text, name=name)
    job = tried(document)
    if isinstance(job, list):
        raise yamls.together(job)
    return job, document


def tried(document: yamls.Document) -> Job | list[BadInput]:
    """Return the job that a document describes, or everything that is wrong with it."""
    job = yamls.tried(document, Job)
    if isinstance(job, Job):
        try:
            names.job(job.name)
        except ValueError as wanted:
            return [BadInput(f'"name" is "{job.name}"; wanted {wanted}', where=document.where(("name",)))]
    return job
