"""Starts the stand-in: `python -m expansion_development.model_server <flags of tensorflow_model_server>`."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from expansion_contract.environment import BIND
from expansion_development.model_server import flags as flag_parser
from expansion_development.model_server import protos
from expansion_development.model_server.errors import StatusError
from expansion_development.model_server.flags import FlagError, Flags
from expansion_development.model_server.manager import Manager, Options, log, read_config
from expansion_development.model_server.rest import Rest, serve

FIRST_LINE = (
    "This is a stand-in for TensorFlow Serving, for development and tests only: REST but no gRPC, and slow."
)
_METRICS = "/monitoring/prometheus/metrics"


def main(arguments: list[str]) -> int:
    log(FIRST_LINE)
    try:
        flags = flag_parser.parse(arguments)
        if flags.without_effect:
            log(f"Accepted, but without effect here: {', '.join(flags.without_effect)}.")
        _run(flags)
    except FlagError as error:
        log(str(error))
    except StatusError as error:
        log(f"Failed to start server. Error: {error.code}: {error.message}")
    return 255


def _run(flags: Flags) -> None:
    """The port opens only when every model of the first config is available."""
    manager = Manager(_options(flags))
    config = _first_config(flags)
    manager.start()
    manager.reload(config)
    period = flags.number("model_config_file_poll_wait_seconds")
    if period and flags.text("model_config_file"):
        file = Path(flags.text("model_config_file"))
        threading.Thread(target=_reload_forever, args=(manager, file, period), daemon=True).start()
    if port := flags.number("rest_api_port"):
        host = os.environ.get(BIND) or "0.0.0.0"
        server = serve(Rest(manager, _metrics_path(flags)), host, port)
        log(f"Exporting HTTP/REST API at:{host}:{port} ...")
        server.serve_forever()
    threading.Event().wait()


def _options(flags: Flags) -> Options:
    return Options(
        file_system_poll_wait_seconds=flags.number("file_system_poll_wait_seconds"),
        num_load_threads=flags.number("num_load_threads"),
        max_num_load_retries=flags.number("max_num_load_retries"),
        load_retry_interval_seconds=flags.number("load_retry_interval_micros") / 1e6,
        allow_version_labels_for_unavailable_models=flags.true("allow_version_labels_for_unavailable_models"),
        enable_model_warmup=flags.true("enable_model_warmup"),
    )


def _first_config(flags: Flags) -> Any:
    if file := flags.text("model_config_file"):
        return _read_first(Path(file))
    if not flags.text("model_base_path"):
        raise FlagError("Both server_options.model_base_path and server_options.model_config_file are empty!")
    config = protos.parsed_text("ModelServerConfig", "model_config_list {}")
    model = config.model_config_list.config.add()
    model.name, model.base_path = flags.text("model_name"), flags.text("model_base_path")
    model.model_platform = "tensorflow"
    return config


def _read_first(file: Path) -> Any:
    try:
        return read_config(file)
    except OSError as error:
        raise StatusError("NOT_FOUND", f"{file}; {error.strerror}") from None


def _reload_forever(manager: Manager, file: Path, period: int) -> None:
    """Again and again, changed or not; a config that cannot be read or applied is logged."""
    while True:
        time.sleep(period)
        try:
            manager.reload(read_config(file))
        except OSError as error:
            log(f"Failed to read ModelServerConfig file: {file}; {error.strerror}")
        except StatusError as error:
            log(f"PollFilesystemAndReloadConfig failed to ReloadConfig: {error.message}")


def _metrics_path(flags: Flags) -> str | None:
    if not (file := flags.text("monitoring_config_file")):
        return None
    try:
        config = protos.parsed_text("MonitoringConfig", Path(file).read_text()).prometheus_config
    except OSError as error:
        raise StatusError("NOT_FOUND", f"{file}; {error.strerror}") from None
    return (config.path or _METRICS) if config.enable else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
