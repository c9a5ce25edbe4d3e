from convoy.wire import convoy_pb2 as _convoy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PodDown(_message.Message):
    __slots__ = ("ping", "blob", "code", "launch", "word", "forget", "end")
    PING_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ping: _convoy_pb2.Ping
    blob: _convoy_pb2.Blob
    code: Piece
    launch: Launch
    word: _convoy_pb2.WorkerDown
    forget: Forget
    end: End
    def __init__(self, ping: _Optional[_Union[_convoy_pb2.Ping, _Mapping]] = ..., blob: _Optional[_Union[_convoy_pb2.Blob, _Mapping]] = ..., code: _Optional[_Union[Piece, _Mapping]] = ..., launch: _Optional[_Union[Launch, _Mapping]] = ..., word: _Optional[_Union[_convoy_pb2.WorkerDown, _Mapping]] = ..., forget: _Optional[_Union[Forget, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ...) -> None: ...

class PodUp(_message.Message):
    __slots__ = ("life", "blob", "word", "output", "ended", "artifact")
    LIFE_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    life: Life
    blob: _convoy_pb2.Blob
    word: _convoy_pb2.WorkerUp
    output: bytes
    ended: Ended
    artifact: Piece
    def __init__(self, life: _Optional[_Union[Life, _Mapping]] = ..., blob: _Optional[_Union[_convoy_pb2.Blob, _Mapping]] = ..., word: _Optional[_Union[_convoy_pb2.WorkerUp, _Mapping]] = ..., output: _Optional[bytes] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., artifact: _Optional[_Union[Piece, _Mapping]] = ...) -> None: ...

class Piece(_message.Message):
    __slots__ = ("path", "data", "last")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    path: str
    data: bytes
    last: bool
    def __init__(self, path: _Optional[str] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class Launch(_message.Message):
    __slots__ = ("module", "env", "begin")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODULE_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    module: str
    env: _containers.ScalarMap[str, str]
    begin: _convoy_pb2.WorkerDown
    def __init__(self, module: _Optional[str] = ..., env: _Optional[_Mapping[str, str]] = ..., begin: _Optional[_Union[_convoy_pb2.WorkerDown, _Mapping]] = ...) -> None: ...

class Forget(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digests: _Optional[_Iterable[str]] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("grace_s",)
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    grace_s: float
    def __init__(self, grace_s: _Optional[float] = ...) -> None: ...

class Life(_message.Message):
    __slots__ = ("cpu_s",)
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    cpu_s: float
    def __init__(self, cpu_s: _Optional[float] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("how",)
    HOW_FIELD_NUMBER: _ClassVar[int]
    how: str
    def __init__(self, how: _Optional[str] = ...) -> None: ...
