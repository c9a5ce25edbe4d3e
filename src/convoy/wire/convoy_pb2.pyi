from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Range(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Blob(_message.Message):
    __slots__ = ("digest", "size", "header", "whole")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size: int
    header: bytes
    whole: bytes
    def __init__(self, digest: _Optional[str] = ..., size: _Optional[int] = ..., header: _Optional[bytes] = ..., whole: _Optional[bytes] = ...) -> None: ...

class Slot(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("id", "kind", "round", "rounds", "model", "has_reply", "reply", "reply_bytes", "settings", "at_least", "sites", "sample", "deadline_s", "quorum", "grace_s", "max_norm", "by_arrival", "outlives", "cohort", "partial", "helper")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    HAS_REPLY_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    REPLY_BYTES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    MAX_NORM_FIELD_NUMBER: _ClassVar[int]
    BY_ARRIVAL_FIELD_NUMBER: _ClassVar[int]
    OUTLIVES_FIELD_NUMBER: _ClassVar[int]
    COHORT_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    HELPER_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    round: int
    rounds: int
    model: str
    has_reply: bool
    reply: _containers.RepeatedCompositeFieldContainer[Slot]
    reply_bytes: int
    settings: str
    at_least: int
    sites: _containers.RepeatedScalarFieldContainer[str]
    sample: int
    deadline_s: float
    quorum: int
    grace_s: float
    max_norm: float
    by_arrival: bool
    outlives: bool
    cohort: _containers.RepeatedScalarFieldContainer[str]
    partial: bool
    helper: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., round: _Optional[int] = ..., rounds: _Optional[int] = ..., model: _Optional[str] = ..., has_reply: _Optional[bool] = ..., reply: _Optional[_Iterable[_Union[Slot, _Mapping]]] = ..., reply_bytes: _Optional[int] = ..., settings: _Optional[str] = ..., at_least: _Optional[int] = ..., sites: _Optional[_Iterable[str]] = ..., sample: _Optional[int] = ..., deadline_s: _Optional[float] = ..., quorum: _Optional[int] = ..., grace_s: _Optional[float] = ..., max_norm: _Optional[float] = ..., by_arrival: _Optional[bool] = ..., outlives: _Optional[bool] = ..., cohort: _Optional[_Iterable[str]] = ..., partial: _Optional[bool] = ..., helper: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("question", "digest", "weight", "metrics", "value", "state", "state_bytes", "cost", "packed")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    question: str
    digest: str
    weight: float
    metrics: _containers.ScalarMap[str, float]
    value: str
    state: str
    state_bytes: int
    cost: Cost
    packed: str
    def __init__(self, question: _Optional[str] = ..., digest: _Optional[str] = ..., weight: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., value: _Optional[str] = ..., state: _Optional[str] = ..., state_bytes: _Optional[int] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ..., packed: _Optional[str] = ...) -> None: ...

class Cost(_message.Message):
    __slots__ = ("pull_s", "train_s", "release_s", "cpu_s", "memory", "gpu_s", "gpu_memory", "energy_j", "took_s", "down", "up", "answers")
    PULL_S_FIELD_NUMBER: _ClassVar[int]
    TRAIN_S_FIELD_NUMBER: _ClassVar[int]
    RELEASE_S_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GPU_S_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    TOOK_S_FIELD_NUMBER: _ClassVar[int]
    DOWN_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    pull_s: float
    train_s: float
    release_s: float
    cpu_s: float
    memory: int
    gpu_s: float
    gpu_memory: int
    energy_j: float
    took_s: float
    down: int
    up: int
    answers: int
    def __init__(self, pull_s: _Optional[float] = ..., train_s: _Optional[float] = ..., release_s: _Optional[float] = ..., cpu_s: _Optional[float] = ..., memory: _Optional[int] = ..., gpu_s: _Optional[float] = ..., gpu_memory: _Optional[int] = ..., energy_j: _Optional[float] = ..., took_s: _Optional[float] = ..., down: _Optional[int] = ..., up: _Optional[int] = ..., answers: _Optional[int] = ...) -> None: ...

class Opening(_message.Message):
    __slots__ = ("hello", "pull", "push", "artifacts")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PULL_FIELD_NUMBER: _ClassVar[int]
    PUSH_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    pull: PullRequest
    push: Push
    artifacts: ArtifactsHead
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., pull: _Optional[_Union[PullRequest, _Mapping]] = ..., push: _Optional[_Union[Push, _Mapping]] = ..., artifacts: _Optional[_Union[ArtifactsHead, _Mapping]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("fault", "reason")
    class Fault(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NONE: _ClassVar[Verdict.Fault]
        NOT_ALLOWED: _ClassVar[Verdict.Fault]
        FAULTY: _ClassVar[Verdict.Fault]
        OTHER: _ClassVar[Verdict.Fault]
    NONE: Verdict.Fault
    NOT_ALLOWED: Verdict.Fault
    FAULTY: Verdict.Fault
    OTHER: Verdict.Fault
    FAULT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    fault: Verdict.Fault
    reason: str
    def __init__(self, fault: _Optional[_Union[Verdict.Fault, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Up(_message.Message):
    __slots__ = ("ping", "ready", "refused", "offer", "failed", "progress", "log", "stopped", "request", "waits", "points")
    PING_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    ping: Ping
    ready: JobReady
    refused: JobRefused
    offer: Offer
    failed: TaskFailed
    progress: Progress
    log: Log
    stopped: JobStopped
    request: CertificateRequest
    waits: JobWaits
    points: PointLines
    def __init__(self, ping: _Optional[_Union[Ping, _Mapping]] = ..., ready: _Optional[_Union[JobReady, _Mapping]] = ..., refused: _Optional[_Union[JobRefused, _Mapping]] = ..., offer: _Optional[_Union[Offer, _Mapping]] = ..., failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., log: _Optional[_Union[Log, _Mapping]] = ..., stopped: _Optional[_Union[JobStopped, _Mapping]] = ..., request: _Optional[_Union[CertificateRequest, _Mapping]] = ..., waits: _Optional[_Union[JobWaits, _Mapping]] = ..., points: _Optional[_Union[PointLines, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "cpu", "memory", "gpu", "jobs", "process", "missing")
    class MissingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    version: str
    cpu: float
    memory: int
    gpu: float
    jobs: _containers.RepeatedScalarFieldContainer[str]
    process: str
    missing: _containers.ScalarMap[str, str]
    def __init__(self, version: _Optional[str] = ..., cpu: _Optional[float] = ..., memory: _Optional[int] = ..., gpu: _Optional[float] = ..., jobs: _Optional[_Iterable[str]] = ..., process: _Optional[str] = ..., missing: _Optional[_Mapping[str, str]] = ...) -> None: ...

class JobReady(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class JobRefused(_message.Message):
    __slots__ = ("job", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: str
    reason: str
    def __init__(self, job: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class JobWaits(_message.Message):
    __slots__ = ("job", "why")
    JOB_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    job: str
    why: str
    def __init__(self, job: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("job", "update", "answer")
    JOB_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    job: str
    update: Blob
    answer: Answer
    def __init__(self, job: _Optional[str] = ..., update: _Optional[_Union[Blob, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("job", "question", "error", "traceback")
    JOB_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    job: str
    question: str
    error: str
    traceback: str
    def __init__(self, job: _Optional[str] = ..., question: _Optional[str] = ..., error: _Optional[str] = ..., traceback: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("job", "offset", "data")
    JOB_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    job: str
    offset: int
    data: bytes
    def __init__(self, job: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PointLines(_message.Message):
    __slots__ = ("job", "lines")
    JOB_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    job: str
    lines: bytes
    def __init__(self, job: _Optional[str] = ..., lines: _Optional[bytes] = ...) -> None: ...

class JobStopped(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class CertificateRequest(_message.Message):
    __slots__ = ("pem",)
    PEM_FIELD_NUMBER: _ClassVar[int]
    pem: bytes
    def __init__(self, pem: _Optional[bytes] = ...) -> None: ...

class Down(_message.Message):
    __slots__ = ("welcome", "start", "task", "stop", "again", "receipt", "reject", "committed", "cancel", "leave", "ping", "renew", "certificate", "federation", "checkpoint")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    RENEW_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    start: Start
    task: Task
    stop: Stop
    again: Again
    receipt: Receipt
    reject: Reject
    committed: Committed
    cancel: Cancel
    leave: Leave
    ping: Ping
    renew: Renew
    certificate: Certificate
    federation: Federation
    checkpoint: Checkpoint
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., stop: _Optional[_Union[Stop, _Mapping]] = ..., again: _Optional[_Union[Again, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., reject: _Optional[_Union[Reject, _Mapping]] = ..., committed: _Optional[_Union[Committed, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., renew: _Optional[_Union[Renew, _Mapping]] = ..., certificate: _Optional[_Union[Certificate, _Mapping]] = ..., federation: _Optional[_Union[Federation, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("seq", "hash", "at", "certificate", "signature")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    hash: str
    at: int
    certificate: str
    signature: str
    def __init__(self, seq: _Optional[int] = ..., hash: _Optional[str] = ..., at: _Optional[int] = ..., certificate: _Optional[str] = ..., signature: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "jobs")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    version: str
    jobs: _containers.RepeatedCompositeFieldContainer[Held]
    def __init__(self, version: _Optional[str] = ..., jobs: _Optional[_Iterable[_Union[Held, _Mapping]]] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("job", "log_offset", "points")
    JOB_FIELD_NUMBER: _ClassVar[int]
    LOG_OFFSET_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    job: str
    log_offset: int
    points: int
    def __init__(self, job: _Optional[str] = ..., log_offset: _Optional[int] = ..., points: _Optional[int] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("job", "bundle", "size", "whole", "log_offset", "points")
    JOB_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    LOG_OFFSET_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    job: str
    bundle: str
    size: int
    whole: bytes
    log_offset: int
    points: int
    def __init__(self, job: _Optional[str] = ..., bundle: _Optional[str] = ..., size: _Optional[int] = ..., whole: _Optional[bytes] = ..., log_offset: _Optional[int] = ..., points: _Optional[int] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("job", "model", "question", "after", "state", "state_bytes", "tables_json")
    JOB_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TABLES_JSON_FIELD_NUMBER: _ClassVar[int]
    job: str
    model: Blob
    question: Question
    after: str
    state: str
    state_bytes: int
    tables_json: str
    def __init__(self, job: _Optional[str] = ..., model: _Optional[_Union[Blob, _Mapping]] = ..., question: _Optional[_Union[Question, _Mapping]] = ..., after: _Optional[str] = ..., state: _Optional[str] = ..., state_bytes: _Optional[int] = ..., tables_json: _Optional[str] = ...) -> None: ...

class Stop(_message.Message):
    __slots__ = ("job", "reason", "finish_s")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FINISH_S_FIELD_NUMBER: _ClassVar[int]
    job: str
    reason: str
    finish_s: float
    def __init__(self, job: _Optional[str] = ..., reason: _Optional[str] = ..., finish_s: _Optional[float] = ...) -> None: ...

class Again(_message.Message):
    __slots__ = ("job", "question")
    JOB_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    job: str
    question: str
    def __init__(self, job: _Optional[str] = ..., question: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("job", "question", "digest")
    JOB_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    job: str
    question: str
    digest: str
    def __init__(self, job: _Optional[str] = ..., question: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Reject(_message.Message):
    __slots__ = ("job", "question", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: str
    question: str
    reason: str
    def __init__(self, job: _Optional[str] = ..., question: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Committed(_message.Message):
    __slots__ = ("job", "round", "folded", "after")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FOLDED_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    job: str
    round: int
    folded: _containers.RepeatedScalarFieldContainer[str]
    after: str
    def __init__(self, job: _Optional[str] = ..., round: _Optional[int] = ..., folded: _Optional[_Iterable[str]] = ..., after: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("job", "question")
    JOB_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    job: str
    question: str
    def __init__(self, job: _Optional[str] = ..., question: _Optional[str] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("restart",)
    RESTART_FIELD_NUMBER: _ClassVar[int]
    restart: bool
    def __init__(self, restart: _Optional[bool] = ...) -> None: ...

class Renew(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("pem",)
    PEM_FIELD_NUMBER: _ClassVar[int]
    pem: bytes
    def __init__(self, pem: _Optional[bytes] = ...) -> None: ...

class Federation(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("job", "digest", "ranges")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    job: str
    digest: str
    ranges: _containers.RepeatedCompositeFieldContainer[Range]
    def __init__(self, job: _Optional[str] = ..., digest: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[Range, _Mapping]]] = ...) -> None: ...

class Push(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Want(_message.Message):
    __slots__ = ("ranges",)
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[Range]
    def __init__(self, ranges: _Optional[_Iterable[_Union[Range, _Mapping]]] = ...) -> None: ...

class ArtifactsHead(_message.Message):
    __slots__ = ("job", "digest", "size")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    job: str
    digest: str
    size: int
    def __init__(self, job: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class ArtifactList(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, files: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("path", "size")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    path: str
    size: int
    def __init__(self, path: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class WorkerUp(_message.Message):
    __slots__ = ("ready", "answer", "failed", "ask", "commit", "done", "failure", "sites", "history", "points", "wholes")
    class WholesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    READY_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    WHOLES_FIELD_NUMBER: _ClassVar[int]
    ready: Ready
    answer: Answer
    failed: TaskFailed
    ask: Question
    commit: Commit
    done: Done
    failure: Failure
    sites: SitesAsk
    history: HistoryAsk
    points: Points
    wholes: _containers.ScalarMap[str, bytes]
    def __init__(self, ready: _Optional[_Union[Ready, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., ask: _Optional[_Union[Question, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., sites: _Optional[_Union[SitesAsk, _Mapping]] = ..., history: _Optional[_Union[HistoryAsk, _Mapping]] = ..., points: _Optional[_Union[Points, _Mapping]] = ..., wholes: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Point(_message.Message):
    __slots__ = ("step", "phase", "values")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    step: int
    phase: str
    values: _containers.ScalarMap[str, float]
    def __init__(self, step: _Optional[int] = ..., phase: _Optional[str] = ..., values: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Points(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    def __init__(self, points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("round", "model", "metrics", "best", "left_out", "state", "folded", "spread")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class LeftOutEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SpreadEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Spread
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Spread, _Mapping]] = ...) -> None: ...
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FOLDED_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    round: int
    model: str
    metrics: _containers.ScalarMap[str, float]
    best: bool
    left_out: _containers.ScalarMap[str, str]
    state: str
    folded: _containers.RepeatedScalarFieldContainer[str]
    spread: _containers.MessageMap[str, Spread]
    def __init__(self, round: _Optional[int] = ..., model: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ..., best: _Optional[bool] = ..., left_out: _Optional[_Mapping[str, str]] = ..., state: _Optional[str] = ..., folded: _Optional[_Iterable[str]] = ..., spread: _Optional[_Mapping[str, Spread]] = ...) -> None: ...

class Spread(_message.Message):
    __slots__ = ("norm", "cosine")
    NORM_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    norm: float
    cosine: float
    def __init__(self, norm: _Optional[float] = ..., cosine: _Optional[float] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Failure(_message.Message):
    __slots__ = ("error", "traceback", "full")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    error: str
    traceback: str
    full: bool
    def __init__(self, error: _Optional[str] = ..., traceback: _Optional[str] = ..., full: _Optional[bool] = ...) -> None: ...

class SitesAsk(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HistoryAsk(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: int
    def __init__(self, after: _Optional[int] = ...) -> None: ...

class WorkerDown(_message.Message):
    __slots__ = ("flow", "trainer", "task", "answer", "end", "committed", "sites", "bye", "history", "visit")
    FLOW_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    BYE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    VISIT_FIELD_NUMBER: _ClassVar[int]
    flow: BeginFlow
    trainer: BeginTrainer
    task: Task
    answer: SiteAnswer
    end: AskEnd
    committed: Committed
    sites: SitesList
    bye: Bye
    history: History
    visit: Visit
    def __init__(self, flow: _Optional[_Union[BeginFlow, _Mapping]] = ..., trainer: _Optional[_Union[BeginTrainer, _Mapping]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., answer: _Optional[_Union[SiteAnswer, _Mapping]] = ..., end: _Optional[_Union[AskEnd, _Mapping]] = ..., committed: _Optional[_Union[Committed, _Mapping]] = ..., sites: _Optional[_Union[SitesList, _Mapping]] = ..., bye: _Optional[_Union[Bye, _Mapping]] = ..., history: _Optional[_Union[History, _Mapping]] = ..., visit: _Optional[_Union[Visit, _Mapping]] = ...) -> None: ...

class Visit(_message.Message):
    __slots__ = ("site", "data_json", "question", "state")
    SITE_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    site: str
    data_json: str
    question: Question
    state: str
    def __init__(self, site: _Optional[str] = ..., data_json: _Optional[str] = ..., question: _Optional[_Union[Question, _Mapping]] = ..., state: _Optional[str] = ...) -> None: ...

class BeginFlow(_message.Message):
    __slots__ = ("job", "name", "code", "blobs", "workflow", "with_json", "config_json", "model", "committed", "committed_model", "out", "committed_state", "waiting")
    JOB_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    WITH_JSON_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_MODEL_FIELD_NUMBER: _ClassVar[int]
    OUT_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_STATE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    job: str
    name: str
    code: str
    blobs: str
    workflow: str
    with_json: str
    config_json: str
    model: str
    committed: int
    committed_model: str
    out: str
    committed_state: str
    waiting: _containers.RepeatedCompositeFieldContainer[Question]
    def __init__(self, job: _Optional[str] = ..., name: _Optional[str] = ..., code: _Optional[str] = ..., blobs: _Optional[str] = ..., workflow: _Optional[str] = ..., with_json: _Optional[str] = ..., config_json: _Optional[str] = ..., model: _Optional[str] = ..., committed: _Optional[int] = ..., committed_model: _Optional[str] = ..., out: _Optional[str] = ..., committed_state: _Optional[str] = ..., waiting: _Optional[_Iterable[_Union[Question, _Mapping]]] = ...) -> None: ...

class BeginTrainer(_message.Message):
    __slots__ = ("job", "name", "site", "code", "blobs", "trainer", "config_json", "data_json", "out", "seed", "model", "withheld")
    JOB_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    OUT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    job: str
    name: str
    site: str
    code: str
    blobs: str
    trainer: str
    config_json: str
    data_json: str
    out: str
    seed: str
    model: str
    withheld: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[str] = ..., name: _Optional[str] = ..., site: _Optional[str] = ..., code: _Optional[str] = ..., blobs: _Optional[str] = ..., trainer: _Optional[str] = ..., config_json: _Optional[str] = ..., data_json: _Optional[str] = ..., out: _Optional[str] = ..., seed: _Optional[str] = ..., model: _Optional[str] = ..., withheld: _Optional[_Iterable[str]] = ...) -> None: ...

class SiteAnswer(_message.Message):
    __slots__ = ("site", "answer", "left_out")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    site: str
    answer: Answer
    left_out: str
    def __init__(self, site: _Optional[str] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., left_out: _Optional[str] = ...) -> None: ...

class AskEnd(_message.Message):
    __slots__ = ("question", "error")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    question: str
    error: str
    def __init__(self, question: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class SitesList(_message.Message):
    __slots__ = ("sites",)
    SITES_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sites: _Optional[_Iterable[str]] = ...) -> None: ...

class PastRound(_message.Message):
    __slots__ = ("round", "metrics", "best")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ROUND_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    round: int
    metrics: _containers.ScalarMap[str, float]
    best: bool
    def __init__(self, round: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., best: _Optional[bool] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("rounds",)
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    rounds: _containers.RepeatedCompositeFieldContainer[PastRound]
    def __init__(self, rounds: _Optional[_Iterable[_Union[PastRound, _Mapping]]] = ...) -> None: ...

class Bye(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
