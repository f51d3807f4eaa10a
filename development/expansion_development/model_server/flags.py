"""TensorFlow Serving's flags: those that matter here, those that change nothing here, and those that cannot be honoured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HONOURED = {
    "rest_api_port": "0",
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": "0",
    "model_name": "default",
    "model_base_path": "",
    "num_load_threads": "0",
    "max_num_load_retries": "5",
    "load_retry_interval_micros": "60000000",
    "file_system_poll_wait_seconds": "1",
    "monitoring_config_file": "",
    "allow_version_labels_for_unavailable_models": "false",
    "enable_model_warmup": "true",
}
WITHOUT_EFFECT = frozenset(
    (
        "port",
        "rest_api_num_threads",
        "rest_api_timeout_in_ms",
        "enable_batching",
        "batching_parameters_file",
        "num_unload_threads",
        "flush_filesystem_caches",
        "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
        "per_process_gpu_memory_fraction",
        "grpc_channel_arguments",
        "grpc_max_threads",
        "enable_grpc_healthcheck_service",
        "enable_profiler",
    )
)
NOT_OFFERED = frozenset(
    (
        "grpc_socket_path",
        "ssl_config_file",
        "platform_config_file",
        "use_alts_credentials",
        "saved_model_tags",
        "prefer_tflite_model",
        "rest_api_enable_cors_support",
        "thread_pool_factory_config_file",
        "mixed_precision",
        "num_request_iterations_for_warmup",
        "version",
    )
)
_TRUE = {"": True, "true": True, "1": True, "false": False, "0": False}


class FlagError(Exception):
    """The server does not start."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    values: Mapping[str, str]
    without_effect: tuple[str, ...]

    def text(self, name: str) -> str:
        return self.values[name]

    def number(self, name: str) -> int:
        return int(self.values[name])

    def true(self, name: str) -> bool:
        return _TRUE[self.values[name]]


def parse(arguments: Sequence[str]) -> Flags:
    """`--name=value` only, as TensorFlow parses flags; anything else is an error."""
    values, idle = dict(HONOURED), []
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in {*HONOURED, *WITHOUT_EFFECT, *NOT_OFFERED}:
            raise FlagError(f"unknown argument: {argument}")
        if name in NOT_OFFERED:
            raise FlagError(
                f"--{name} is a flag of TensorFlow Serving that this stand-in does not offer; leave it out."
            )
        if name in WITHOUT_EFFECT:
            idle.append(name)
        elif not _is_of_its_kind(name, value):
            raise FlagError(f"Couldn't interpret value {value} for flag {name}.")
        else:
            values[name] = value
    return Flags(values=values, without_effect=tuple(idle))


def _is_of_its_kind(name: str, value: str) -> bool:
    """The default tells the kind."""
    default = HONOURED[name]
    if default.isdecimal():
        return value.isdecimal()
    return default not in {"true", "false"} or value in _TRUE
