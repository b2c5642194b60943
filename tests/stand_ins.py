"""Stand-ins for what a GPU machine has: nvidia-smi, docker with trtexec in a container, TensorRT's package.

trtexec reads the very arguments that are printed for people, "builds" a plan by copying the graph, and
runs it with ONNX Runtime, answering in trtexec's own format. So all but TensorRT itself is real.
"""

import ctypes
import math
import os
import stat
import sys
import types
from pathlib import Path

import numpy as np

TRTEXEC = """
import json, pathlib, shutil, sys
import numpy as np, onnxruntime

arguments = sys.argv[1:]
assert arguments[:2] == ["run", "--rm"] and "--gpus" in arguments, arguments
host, container = arguments[arguments.index("--volume") + 1].rsplit(":", 1)
options = dict(word.removeprefix("--").split("=", 1) if "=" in word else (word.removeprefix("--"), "")
               for word in arguments[arguments.index("trtexec") + 1:])


def path(text):
    return pathlib.Path(host) / pathlib.PurePosixPath(text).relative_to(container)


def by_name(text):
    return dict(part.split(":") for part in text.split(","))


if "onnx" in options:
    year = int(arguments[arguments.index("trtexec") - 1].partition("tensorrt:")[2][:2])
    assert ("stronglyTyped" in options) == (year < 26) and "skipInference" in options, arguments
    session = onnxruntime.InferenceSession(path(options["onnx"]).read_bytes(),
                                           providers=["CPUExecutionProvider"])
    names = {tensor.name for tensor in session.get_inputs()}
    for key in ("minShapes", "optShapes", "maxShapes"):
        assert set(by_name(options[key])) == names, options
    shutil.copyfile(path(options["onnx"]), path(options["saveEngine"]))
    path(options["timingCacheFile"]).write_text("timings")
else:
    session_options = onnxruntime.SessionOptions()
    session_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(path(options["loadEngine"]).read_bytes(), session_options,
                                           providers=["CPUExecutionProvider"])
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    shapes, files = by_name(options["shapes"]), by_name(options["loadInputs"])
    feed = {tensor.name: np.fromfile(path(files[tensor.name]), kinds[tensor.type]).reshape(
                [int(dim) for dim in shapes[tensor.name].split("x")]) for tensor in session.get_inputs()}
    outputs = [{"name": tensor.name, "dimensions": "x".join(map(str, array.shape)),
                "values": [float(f"{value + ERROR:.6g}") for value in array.ravel()]}
               for tensor, array in zip(session.get_outputs(), session.run(None, feed))]
    path(options["exportOutput"]).write_text(json.dumps(outputs))
"""


def install(folder: Path, capability: str | None = "8.9", error: float = 0.0, exit_code: int = 0) -> str:
    """A PATH with the stand-ins in front of the real one. `error` is added to every answer of a plan."""
    folder.mkdir(parents=True, exist_ok=True)
    said = f"echo {capability}" if capability else "echo 'NVIDIA-SMI has failed'; exit 9"
    _script(folder / "nvidia-smi", f"#!/bin/sh\n{said}\n")
    trtexec = TRTEXEC.replace("ERROR", str(error))
    if exit_code:
        trtexec = f"import sys\nprint('[E] Could not build')\nsys.exit({exit_code})\n"
    _script(folder / "docker", f"#!{sys.executable}\n{trtexec}")
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class TensorRT(types.ModuleType):
    """What `PythonBuilder` uses of TensorRT's package, by the names of its 10.5 bindings."""

    NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = types.SimpleNamespace(TF32="TF32")

    def __init__(self, errors=()):
        super().__init__("tensorrt")
        self.told, self.errors, self.num_errors = {}, errors, len(errors)
        self.Logger = type("Logger", (), {"WARNING": 2, "__init__": lambda *_: None})
        self.Builder = lambda logger: self
        self.OnnxParser = lambda network, logger: self

    def create_network(self, flags):
        self.told["flags"] = flags

    def parse(self, graph):
        self.told["graph"] = graph
        return not self.errors

    def get_error(self, index):
        return self.errors[index]

    def create_builder_config(self):
        return self

    create_optimization_profile = create_builder_config

    def clear_flag(self, flag):
        self.told["cleared"] = flag

    def set_shape(self, name, *shapes):
        self.told[name] = shapes

    def add_optimization_profile(self, profile):
        self.told["profiles"] = self.told.get("profiles", 0) + 1

    def create_timing_cache(self, data):
        self.told["cache"] = data
        return "cache"

    def set_timing_cache(self, cache, ignore_mismatch):
        assert (cache, ignore_mismatch) == ("cache", False)

    def build_serialized_network(self, network, config):
        return b"plan"

    def get_timing_cache(self):
        return types.SimpleNamespace(serialize=lambda: b"timings")


class Plan:
    """What `PythonBuilder` uses of a plan that runs, on the CPU: `answers` are written to their buffers.

    `types`: of all tensors; numpy's stand for TensorRT's. The inputs that it read are in `given`.
    """

    TensorIOMode = types.SimpleNamespace(OUTPUT="output")
    Logger = type("Logger", (), {"WARNING": 2, "__init__": lambda *_: None})
    nptype = staticmethod(lambda kind: kind)

    def __init__(self, types, answers):
        self.types, self.answers, self.num_io_tensors = types, answers, len(types)
        self.shapes, self.addresses, self.given = {}, {}, {}
        self.Runtime = lambda logger: self

    def deserialize_cuda_engine(self, plan):
        return self

    def create_execution_context(self):
        return self

    def get_tensor_name(self, index):
        return list(self.types)[index]

    def get_tensor_dtype(self, name):
        return self.types[name]

    def get_tensor_mode(self, name):
        return "output" if name in self.answers else "input"

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape

    def get_tensor_shape(self, name):
        return self.answers[name].shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        for name, shape in self.shapes.items():
            size = np.dtype(self.types[name]).itemsize * math.prod(shape)
            read = ctypes.string_at(self.addresses[name], size)
            self.given[name] = np.frombuffer(read, self.types[name]).reshape(shape)
        for name, answer in self.answers.items():
            ctypes.memmove(self.addresses[name], answer.tobytes(), answer.nbytes)
        return True
