"""A served model whose policy can be changed and measured: on a server of our own, or on any other.

Triton's model repository extension loads a model with a config given in the request, so that nothing is
written anywhere while policies are tried. It needs `--model-control-mode=explicit`. Seen with tritonserver
2.51: a load request without a config leaves a model that was loaded with one as it is, so the first config is
given back in the same way.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tritonclient.grpc as grpc
from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup
from tritonclient.utils import InferenceServerException

from perf.harness.errors import PerfError
from perf.harness.generators.analyzer import Analyzer, AnalyzerError
from perf.harness.inputs import Inputs, write_inputs
from perf.harness.load import WINDOWS, Load, Target, measure
from perf.harness.machine import others_cpu_seconds
from perf.harness.serving import THREADS_KEY, ServedModel
from perf.tuning.policy import Policy, apply
from perf.tuning.search import LoadError
from server.environment.host_policies import HOST_POLICIES, host_policy_arguments

__all__ = ["Bench", "bench"]

LOAD_TIMEOUT_S = 180.0
PATIENT_WINDOW_S = 2.0
OTHERS_SHARE = 0.1  # of the cores, for all other programs of the machine together


@dataclass
class Bench:
    """config: the model's own; policies are tried in it. seconds: of the shortest windows.

    ours: whether the server runs here, so that it can be told who else takes its cores.

    host_policies: names that place a part of the instances each; empty where the server may not know any.
    loads, overheads: seconds that each load took, and each measurement beyond its windows, for estimates.
    """

    config: ModelConfig
    target: Target
    inputs: Inputs
    client: grpc.InferenceServerClient
    analyzer: Analyzer
    cores: int
    host_policies: tuple[str, ...]
    seconds: float
    ours: bool = True
    loads: list[float] = field(default_factory=list)
    overheads: list[float] = field(default_factory=list)
    loaded: Policy | None = None

    def on_gpu(self) -> bool:
        """Whether the server runs the model on a GPU: it says so once the model is loaded."""
        served = self.client.get_model_config(self.target.model).config
        return any(group.kind == ModelInstanceGroup.KIND_GPU for group in served.instance_group)

    def reads_threads(self) -> bool:
        """Whether the model's backend takes a number of threads from its parameters."""
        backend = self.config.backend or self.config.platform
        return THREADS_KEY in self.config.parameters or backend.startswith("onnxruntime")

    def load(self, policy: Policy) -> None:
        """Serve the model with `policy`. Raises `LoadError` with what the server says."""
        if policy == self.loaded:
            return
        self.loaded, start = None, time.monotonic()
        load_config(self.client, apply(policy, self.config))
        self.loaded = policy
        self.loads.append(time.monotonic() - start)

    def measure(self, load: Load, factor: float = 1) -> dict[str, Any]:
        """One level, over windows of `seconds` x `factor` each.

        A policy under which the model stands still now and then may leave such a window without one answer,
        which perf_analyzer takes for a failure: then once more, over longer ones.
        """
        seconds = self.seconds * factor
        try:
            return self._measure(load, seconds)
        except AnalyzerError:
            return self._measure(load, max(seconds, PATIENT_WINDOW_S))

    def _measure(self, load: Load, seconds: float) -> dict[str, Any]:
        start, before = time.monotonic(), others_cpu_seconds() if self.ours else 0.0
        measured = measure(self.analyzer, self.target, load, seconds=seconds)
        elapsed = time.monotonic() - start
        self.overheads.append(elapsed - WINDOWS * seconds)
        others = (others_cpu_seconds() - before) / elapsed if self.ours else None
        return {**measured, "others_cores": others}

    def disturbed(self, measured: dict[str, Any]) -> bool:
        """Whether other programs took so much of the cores meanwhile that the figures are not the model's."""
        return (measured.get("others_cores") or 0) > OTHERS_SHARE * self.cores


@contextlib.contextmanager
def bench(
    served: ServedModel, analyzer: Analyzer, seconds: float, cores: int | None = None
) -> Iterator[Bench]:
    """Of a model that is served. If the server is not ours, the model gets its config back at the end.

    cores: that the server may use; None takes those of this process.
    """
    ours = served.server is not None
    config = served.config
    if ours:
        names = HOST_POLICIES if host_policy_arguments() else ()
    else:
        names = tuple(sorted({group.host_policy for group in config.instance_group} - {""}))
    with tempfile.TemporaryDirectory() as scratch, grpc.InferenceServerClient(served.grpc_url) as client:
        inputs = write_inputs(config, Path(scratch) / "inputs.json")
        target = served.target(inputs)
        cores = cores or len(os.sched_getaffinity(0))
        try:
            yield Bench(config, target, inputs, client, analyzer, cores, names, seconds, ours)
        finally:
            if not ours:
                load_config(client, config)


def load_config(client: grpc.InferenceServerClient, config: ModelConfig) -> None:
    """Load a model as `config` says. Raises `LoadError`; `PerfError` if this server loads none at all."""
    text = json_format.MessageToJson(config, preserving_proto_field_name=True)
    try:
        client.load_model(config.name, config=text, client_timeout=LOAD_TIMEOUT_S)
    except InferenceServerException as error:
        message = (error.message() or str(error)).strip()
        if "explicit" in message or error.status() == "StatusCode.UNAVAILABLE":
            raise PerfError(
                f"policies cannot be tried on this server: {message}; it must run, with "
                "--model-control-mode=explicit"
            ) from None
        raise LoadError(message.splitlines()[0]) from None
