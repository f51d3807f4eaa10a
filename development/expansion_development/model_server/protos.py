"""The few protocol messages we read, declared here because their generated classes come only with a heavy import or not at all.

They live in a pool of their own, so that they can meet TensorFlow's in one process. Fields we do not declare are skipped.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

from expansion_development.model_server.errors import invalid

# name: type = number; a capital is a message, `*` repeats, `type->type` is a map.
# Sources: tensorflow_serving/config/*.proto, tensorflow_serving/apis/*.proto, tensorflow/core/{framework,protobuf}/*.proto
_MESSAGES = {
    "ModelServerConfig": "model_config_list:ModelConfigList=1",
    "ModelConfigList": "config:*ModelConfig=1",
    "ModelConfig": (
        "name:string=1 base_path:string=2 model_platform:string=4 model_version_policy:VersionPolicy=7"
        " version_labels:string->int64=8"
    ),
    "VersionPolicy": "latest:Latest=100 all:All=101 specific:Specific=102",
    "Latest": "num_versions:uint32=1",
    "All": "",
    "Specific": "versions:*int64=1",
    "MonitoringConfig": "prometheus_config:PrometheusConfig=1",
    "PrometheusConfig": "enable:bool=1 path:string=2",
    "MetaGraphDef": "signature_def:string->SignatureDef=5",
    "SignatureDef": "inputs:string->TensorInfo=1 outputs:string->TensorInfo=2 method_name:string=3",
    "TensorInfo": "name:string=1 dtype:DataType=2 tensor_shape:TensorShapeProto=3",
    "TensorShapeProto": "dim:*Dim=2 unknown_rank:bool=3",
    "Dim": "size:int64=1 name:string=2",
    "PredictionLog": "predict_log:PredictLog=6",
    "PredictLog": "request:PredictRequest=1",
    "PredictRequest": "model_spec:ModelSpec=1 inputs:string->TensorProto=2",
    "ModelSpec": "name:string=1 signature_name:string=3",
    "TensorProto": (
        "dtype:DataType=1 tensor_shape:TensorShapeProto=2 tensor_content:bytes=4 float_val:*float=5 double_val:*double=6"
        " int_val:*int32=7 string_val:*bytes=8 int64_val:*int64=10 bool_val:*bool=11"
    ),
}
_DATA_TYPES = {
    "DT_INVALID": 0,
    "DT_FLOAT": 1,
    "DT_DOUBLE": 2,
    "DT_INT32": 3,
    "DT_UINT8": 4,
    "DT_INT8": 6,
    "DT_STRING": 7,
    "DT_INT64": 9,
    "DT_BOOL": 10,
}
_PACKAGE = "standin"
_Field: Any = descriptor_pb2.FieldDescriptorProto


def _fill_type(field: Any, kind: str) -> None:
    if kind == "DataType":
        field.type, field.type_name = _Field.TYPE_ENUM, f".{_PACKAGE}.DataType"
    elif kind[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


def _add_map_entry(message: Any, name: str, key: str, value: str) -> str:
    entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    for number, (label, kind) in enumerate((("key", key), ("value", value)), start=1):
        _fill_type(entry.field.add(name=label, number=number, label=_Field.LABEL_OPTIONAL), kind)
    return f"{message.name}.{entry.name}"


def _add_field(message: Any, declaration: str) -> None:
    name, _, rest = declaration.partition(":")
    kind, _, number = rest.partition("=")
    repeated = kind.startswith("*") or "->" in kind
    if "->" in kind:
        kind = _add_map_entry(message, name, *kind.split("->"))
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    _fill_type(message.field.add(name=name, number=int(number), label=label), kind.removeprefix("*"))


def _declared() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="standin.proto", package=_PACKAGE, syntax="proto3")
    enum = file.enum_type.add(name="DataType")
    for name, number in _DATA_TYPES.items():
        enum.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for declaration in fields.split():
            _add_field(message, declaration)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _declared()


def parsed(kind: str, content: bytes) -> Any:
    """A message from its wire format."""
    message = _CLASSES[kind]()
    message.ParseFromString(content)
    return message


def parsed_text(kind: str, text: str) -> Any:
    """A message from its text format, as in a config file."""
    try:
        return text_format.Parse(text, _CLASSES[kind]())
    except text_format.ParseError as error:
        raise invalid(f"Error parsing text-format {kind}: {error}") from None


def data_type_name(number: int) -> str:
    """float for 1, as TensorFlow's messages have it."""
    names = {value: name for name, value in _DATA_TYPES.items()}
    return names.get(number, str(number)).removeprefix("DT_").lower()
