"""What is measured: a server with one model and what that needs, started for the time, or one that runs."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.repository.publish import GRAPH_FILE, newest_version
from perf.harness.errors import PerfError
from perf.harness.inputs import REPOSITORY, Inputs, fetch_config, is_complete, model_names, read_config
from perf.harness.load import Target
from perf.harness.raw import ModelFacts, model_facts
from server import TritonServer
from server.environment.repository import CONFIG_VARIABLE

__all__ = [
    "THREADS_KEY",
    "TRANSPORTS",
    "ServedModel",
    "completed_config",
    "configured",
    "exported",
    "needed",
    "newest_graph",
    "running",
    "serving",
    "sessions_and_threads",
]

THREADS_KEY = "intra_op_thread_count"  # of a model's parameters
# protocol and shared memory of perf_analyzer, and further arguments
TRANSPORTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "grpc": ("grpc", "none", ()),
    "grpc+shm": ("grpc", "system", ()),
    "grpc+cuda": ("grpc", "cuda", ()),
    "grpc-stream": ("grpc", "none", ("--streaming",)),
    "http": ("http", "none", ()),
    "http+shm": ("http", "system", ()),
}


@dataclass(frozen=True)
class ServedModel:
    """A server with a model that is ready.

    config     as it is written, or as the server completed it if no tensors are
    facts      of the model, as `perf.harness.raw.model_facts` gives them; a server elsewhere tells no hashes
    composing  the same of the models that an ensemble or a pipeline calls
    version    Triton's own
    server     None if it is not ours
    """

    model: str
    http_url: str
    grpc_url: str
    config: model_config_pb2.ModelConfig
    facts: ModelFacts
    composing: list[ModelFacts]
    version: str
    server: TritonServer | None = None

    def target(
        self, inputs: Inputs, transport: str = "grpc", *, model: str | None = None, more: tuple[str, ...] = ()
    ) -> Target:
        """Where perf_analyzer sends `inputs`, over one of `TRANSPORTS`.

        model: another one that is served beside it. more: arguments of perf_analyzer.
        """
        protocol, shared_memory, also = TRANSPORTS[transport]
        return Target(
            model or self.model,
            self.grpc_url,
            self.http_url,
            protocol,
            shared_memory,
            input_data=inputs.path,
            arguments=(*inputs.arguments, *also, *more),
        )


def needed(model: str, repository: Path = REPOSITORY) -> list[str]:
    """The model and what it is made of: the steps of an ensemble, and models that string parameters name."""
    found: list[str] = []
    pending = [model]
    while pending:
        name = pending.pop(0)
        if name in found:
            continue
        found.append(name)
        config = read_config(name, repository)
        pending += [step.model_name for step in config.ensemble_scheduling.step]
        values = [parameter.string_value for parameter in config.parameters.values()]
        there = model_names(repository) if values else ()
        pending += [value for value in values if value in there]
    return found


def completed_config(model: str, repository: Path = REPOSITORY) -> model_config_pb2.ModelConfig:
    """How a model is served, with its tensors: from a server that starts for it, if they are not written."""
    config = read_config(model, repository)
    if is_complete(config):
        return config
    with serving(model, repository) as served:
        return served.config


@contextlib.contextmanager
def configured(name: str) -> Iterator[None]:
    """Servers started meanwhile serve each model's `configs/NAME.pbtxt`; "": its config.pbtxt."""
    before = os.environ.get(CONFIG_VARIABLE)
    os.environ[CONFIG_VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[CONFIG_VARIABLE]
        else:
            os.environ[CONFIG_VARIABLE] = before


@contextlib.contextmanager
def serving(
    model: str, repository: Path = REPOSITORY, *, also: tuple[str, ...] = ()
) -> Iterator[ServedModel]:
    """A server of our own with the model and what it needs, and other models. Raises `PerfError`."""
    names = list(dict.fromkeys(name for one in (model, *also) for name in needed(one, repository)))
    with (
        tempfile.TemporaryDirectory() as scratch,
        TritonServer(
            repository,
            log=Path(scratch) / "triton.log",
            arguments=["--model-control-mode=explicit", *(f"--load-model={name}" for name in names)],
        ) as server,
    ):
        reasons = {m.name: m.reason or m.state for m in server.models() if not m.ready}
        ready = {m.name for m in server.models() if m.ready}
        if missing := [f"{name} ({reasons.get(name, '')})" for name in names if name not in ready]:
            raise PerfError(
                f"not ready: {', '.join(missing)}. `make export` makes the graphs; "
                "`python -m export lint` finds mistakes in a config"
            )
        written = read_config(model, repository)
        yield ServedModel(
            model,
            server.http_url,
            server.grpc_url,
            written if is_complete(written) else fetch_config(model, server.http_url),
            model_facts(repository, model),
            [model_facts(repository, name) for name in needed(model, repository)[1:]],
            server_version(server.http_url),
            server,
        )


def running(model: str, http_url: str, grpc_url: str) -> ServedModel:
    """A model of a server that runs already. Raises `PerfError` if it is not reached or not ready."""
    version = server_version(http_url)
    config = fetch_config(model, http_url)
    try:
        with urllib.request.urlopen(f"http://{http_url}/v2/models/{model}/ready", timeout=10):
            pass
    except OSError as error:
        raise PerfError(f"{model} is not ready on {http_url}: {error}") from None

    def facts(name: str) -> ModelFacts:
        there = config if name == model else fetch_config(name, http_url)
        text = text_format.MessageToString(there)
        return {"name": name, "config_pbtxt": text, "version": None, "sha256": {}}

    steps = [facts(name) for name in {step.model_name: 0 for step in config.ensemble_scheduling.step}]
    return ServedModel(model, http_url, grpc_url, config, facts(model), steps, version)


def server_version(http_url: str) -> str:
    """Triton's version. Raises `PerfError` if nothing answers there."""
    try:
        with urllib.request.urlopen(f"http://{http_url}/v2", timeout=10) as answer:
            return str(json.load(answer)["version"])
    except (OSError, ValueError, KeyError) as error:
        raise PerfError(
            f"no Triton answers on http://{http_url}/v2: {error}. `make serve` starts one; --url takes "
            "HOST:PORT of its HTTP endpoint, 8000 by default"
        ) from None


def newest_graph(folder: Path) -> Path:
    """The ONNX file of the newest version of a model that has one. Raises `PerfError`."""
    version = newest_version(folder)
    if version is None:
        raise PerfError(f"{folder} holds no model.onnx; run `python -m export {folder.name}` first")
    return folder / str(version) / GRAPH_FILE


def sessions_and_threads(config: model_config_pb2.ModelConfig) -> tuple[int, int]:
    """Instances and intra-op threads of each, as a config gives them; 0 threads means one per core."""
    threads = config.parameters[THREADS_KEY].string_value or "0"
    return sum(group.count for group in config.instance_group) or 1, int(threads)


@contextlib.contextmanager
def exported(spec: str) -> Iterator[tuple[str, Path]]:
    """The name and the repository, a scratch one, of a spec ("file.py:name") with random weights.

    Raises `PerfError` with what the export said.
    """
    with tempfile.TemporaryDirectory(prefix="triton-vision-perf-") as folder:
        repository = Path(folder)
        command = [
            sys.executable,
            "-m",
            "export",
            spec,
            "--random-weights",
            f"--model-repository={repository}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        names = [path.parent.name for path in repository.glob("*/config.pbtxt")]
        if done.returncode or len(names) != 1:
            told = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
            raise PerfError(f"{spec} was not exported:\n{told}")
        yield names[0], repository
