"""A model repository as Triton finds it: folders, versions, configs, backends, and what a model takes."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.release import Release
from export.lint.reading.completion import BATCH_FROM_FILE, INPUTS, UNKNOWN, completion
from export.lint.reading.config_source import ConfigSyntaxError, Node, read_config, refusals
from export.lint.reading.encodings import python_text
from export.lint.reading.graph import GraphError, LintedGraph, is_lfs_pointer, read_graph
from export.lint.reading.sessions import SessionFacts, Sessions
from export.lint.rules import RULES, Finding
from server.environment.regular_files import read_regular

__all__ = [
    "CONFIG_FILE",
    "ENSEMBLE",
    "FIXED_FILES",
    "MODEL_FILES",
    "NOT_VERSIONS",
    "OTHER_CONFIGS",
    "PLATFORMS",
    "VERSION",
    "Model",
    "Repository",
    "Signature",
    "read_repository",
]

CONFIG_FILE = "config.pbtxt"
OTHER_CONFIGS = "configs"  # of --model-config-name
NOT_VERSIONS = {OTHER_CONFIGS, "warmup", "initial_state"}
MEANT_AS_CONFIG = re.compile(r"config\.\w+(\.txt)?|\w+\.pbte?xt?", re.IGNORECASE)
VERSION = re.compile(r"0|[1-9]\d*")
ENSEMBLE = "ensemble"
DEFAULT_MAX_BATCH_SIZE = 4  # what auto-complete gives a graph that can be batched

# What NVIDIA's core completes from the other, and from the files of the first version.
PLATFORMS = {
    "tensorrt_plan": "tensorrt",
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    "torch_aoti": "pytorch",  # not of every release: TV119
    "tensorflow_graphdef": "tensorflow",
    "tensorflow_savedmodel": "tensorflow",
}
MODEL_FILES = {
    "tensorrt": ("model.plan",),
    "onnxruntime": ("model.onnx",),
    "openvino": ("model.xml",),
    "pytorch": ("model.pt", "model.pt2"),
    "tensorflow": ("model.savedmodel", "model.graphdef"),
    "python": ("model.py",),
}
# Those of backends that core does not tell by their files; the fixed ones whatever default_model_filename is.
OTHER_FILES = {"dali": ("model.dali",)}
FIXED_FILES = {"dali": ("dali.py",), "vllm": ("model.json",)}


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs and batch size after auto-complete; None where only the backend knows.

    Tensors are entries of a config, without data_type or dims where the backend fills them in. A batch size
    of 0 means that dims are whole shapes. more: the backend may add tensors to those that are here.
    """

    inputs: dict[str, Message] | None
    outputs: dict[str, Message] | None
    max_batch_size: int | None
    more: bool = False


class Model:
    """A folder of the repository under one of its configs.

    releases: of Triton, by name, that it is read for; refused: those that do not know a field of the config,
    which is read for the others.
    """

    def __init__(
        self,
        repository: Path,
        folder: Path,
        config_file: Path | None,
        sessions: Sessions,
        releases: Collection[str],
    ) -> None:
        self.repository, self.folder, self.name = repository, folder, folder.name
        self.releases = tuple(releases)
        self._sessions = sessions
        self.config_file = config_file
        self.config, self.source = ModelConfig(), Node("", 1)
        self.error: ConfigSyntaxError | None = None
        self.refused: dict[str, ConfigSyntaxError] = {}
        if config_file is not None:
            try:
                self.config, self.source = read_config(read_regular(config_file))
                self.refused = refusals(self.source, self.releases)
            except ConfigSyntaxError as error:
                self.error = error

    def finding(
        self,
        code: str,
        message: str,
        fix: str,
        *path: str | int,
        file: Path | None = None,
        line: int | None = None,
        severity: str | None = None,
        releases: Collection[str] = (),
    ) -> Finding:
        """A fault of the config at that path of fields, or of another file; releases: those that have it."""
        rule = RULES[code]
        if file is None and self.config_file is not None:
            file, line = self.config_file, line or self.source.at(*path).line
        file = file or self.folder
        shown = str(file.relative_to(self.repository)) if file != self.repository else "."
        only = () if set(releases) == set(self.releases) else tuple(releases)
        return Finding(code, severity or rule.severity, self.name, shown, line, message, fix, rule.link, only)

    @cached_property
    def misplaced_configs(self) -> list[Path]:
        """In version folders, and, where there is none to be read, under other names."""
        found = sorted(self.folder.glob(f"*/{CONFIG_FILE}"))
        if self.config_file is None:
            files = sorted(entry for entry in self.folder.iterdir() if entry.is_file())
            found += [file for file in files if MEANT_AS_CONFIG.fullmatch(file.name)]
        return found

    @property
    def readable(self) -> bool:
        """Is what Triton is to know of the model known here, too?"""
        if self.error is not None or (self.config_file is None and self.misplaced_configs):
            return False
        return not self.refused or len(self.refused) < len(self.releases)

    @cached_property
    def folders(self) -> list[str]:
        """Names of all folders inside, sorted as text: versions, and others."""
        return sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir())

    @cached_property
    def versions(self) -> list[int]:
        """All that have a folder, oldest first."""
        return sorted(int(name) for name in self.folders if VERSION.fullmatch(name))

    @cached_property
    def served_versions(self) -> list[int]:
        """Those that the version policy loads."""
        return self.served_of(self.versions)

    def served_of(self, versions: list[int]) -> list[int]:
        """What the version policy loads of these, which are sorted."""
        policy = self.config.version_policy
        if policy.HasField("specific"):
            return [version for version in versions if version in policy.specific.versions]
        if policy.HasField("all"):
            return versions
        count = policy.latest.num_versions if policy.HasField("latest") else 1
        return versions[-count:] if count else []

    @property
    def is_ensemble(self) -> bool:
        """By its platform or its steps; an unfinished ensemble has only one of them."""
        return self.config.platform == ENSEMBLE or self.config.HasField("ensemble_scheduling")

    @cached_property
    def backend(self) -> str:
        """As core completes it; "" where it cannot be told, and for ensembles."""
        config = self.config
        if config.backend or self.is_ensemble:
            return "" if self.is_ensemble else config.backend
        if config.platform:
            return PLATFORMS.get(config.platform, "")
        if config.default_model_filename:
            named = [
                backend for backend, files in MODEL_FILES.items() if config.default_model_filename in files
            ]
            return named[0] if named else ""
        for version in self.versions[:1]:  # core looks at the first only
            for backend, files in MODEL_FILES.items():
                if any((self.folder / str(version) / file).exists() for file in files):
                    return backend
        return self.name.partition(".")[2]  # a custom backend's, as in model.identity

    @property
    def file_names(self) -> tuple[str, ...]:
        """Of what a version is loaded from, the first that is there; none where that is not known."""
        usual = {**MODEL_FILES, **OTHER_FILES}.get(self.backend, ())
        named = self.config.default_model_filename
        if named and (usual or self.backend not in FIXED_FILES):
            usual = (named,)
        return (*usual, *FIXED_FILES.get(self.backend, ()))

    def model_file(self, version: int) -> Path | None:
        """The file that a version is loaded from, or None where there is none to be seen."""
        for name in self.file_names:
            path = self.folder / str(version) / name
            if path.is_dir() and self.backend == "onnxruntime":
                path /= "model.onnx"
            if path.exists():
                return path
        return None

    @cached_property
    def graphs(self) -> dict[int, LintedGraph | GraphError]:
        """The ONNX graph of each served version that has one."""
        graphs: dict[int, LintedGraph | GraphError] = {}
        for version in self.served_versions if self.backend == "onnxruntime" else ():
            path = self.model_file(version)
            if path is None or not path.is_file() or is_lfs_pointer(path):
                continue
            try:
                graphs[version] = read_graph(path, self._ask)
            except GraphError as error:
                graphs[version] = error
        return graphs

    def _ask(self, graph: LintedGraph, batched: set[str]) -> SessionFacts:
        return self._sessions.ask(graph.model, graph.path, self.config.optimization.graph.level, batched)

    def sized(self, graph: LintedGraph, sizes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """What the dims of the graph's outputs are where open dims of its inputs have these sizes."""
        return self._sessions.sized(graph.model, graph.path, sizes)

    @property
    def is_handled(self) -> bool:
        """A Python model under a platform is what a handler of that platform makes of the file."""
        return self.backend == "python" and bool(self.config.platform)

    @cached_property
    def python_file(self) -> Path | None:
        """Of a Python model, that of its newest served version; None for others, and where there is none."""
        path = self.model_file(self.served_versions[-1]) if self.served_versions else None
        if self.backend != "python" or self.is_handled or path is None or not path.is_file():
            return None
        return path

    @cached_property
    def python_source(self) -> str:
        """The text of a Python model, "" for others."""
        return python_text(read_regular(self.python_file)) if self.python_file else ""

    @cached_property
    def completion(self) -> str:
        """How much of `input` and `output` the backend may fill in (export/lint/reading/completion.py)."""
        if self.is_handled:
            return UNKNOWN
        return completion(self.backend, self.python_source, self.config.runtime)

    @cached_property
    def signature(self) -> Signature:
        """What is known without loading the model."""
        config = self.config
        inputs = {entry.name: entry for entry in config.input}
        outputs = {entry.name: entry for entry in config.output}
        batch: int | None = config.max_batch_size
        if self.is_ensemble:
            return Signature(inputs, outputs, batch)
        if self.backend == "onnxruntime":
            return self._completed_by_graph(inputs, outputs)
        whole = bool(inputs and outputs) and all(
            entry.data_type and entry.dims for entry in (*config.input, *config.output)
        )
        more = self.completion == INPUTS or (self.completion == UNKNOWN and not whole)
        if more and self.python_source:
            batch = None  # which it may raise, and lower
        elif not batch and (self.backend in BATCH_FROM_FILE or not whole):
            batch = None
        return Signature(inputs or None, outputs or None, batch, more)

    def _completed_by_graph(self, inputs: dict[str, Message], outputs: dict[str, Message]) -> Signature:
        """NVIDIA's backend completes all or nothing: nothing once there are inputs and outputs."""
        config = self.config
        if (inputs or config.batch_input) and outputs:
            return Signature(inputs, outputs, config.max_batch_size)
        graph = next(
            (graph for graph in reversed(self.graphs.values()) if isinstance(graph, LintedGraph)), None
        )
        if graph is None:
            return Signature(inputs or None, outputs or None, config.max_batch_size or None)
        batch = config.max_batch_size or (DEFAULT_MAX_BATCH_SIZE if graph.batchable else 0)
        return Signature(
            inputs or _completed(graph.inputs, batch), outputs or _completed(graph.outputs, batch), batch
        )


def _completed(tensors: Any, max_batch_size: int) -> dict[str, Message]:
    completed = {}
    for name, tensor in tensors.items():
        data_type = model_config_pb2.DataType.Value(tensor.data_type if tensor.supported else "TYPE_INVALID")
        dims = tensor.dims[1:] if max_batch_size else tensor.dims
        completed[name] = model_config_pb2.ModelInput(name=name, data_type=data_type, dims=dims or (1,))
    return completed


class Repository:
    """models: by name, under the config that Triton takes by default; variants: under all configs.

    releases: those that it is read for, oldest first.
    """

    def __init__(self, path: Path, models: list[Model], releases: Sequence[Release]) -> None:
        self.path, self.releases = path, tuple(releases)
        self.variants = models
        self.models = {model.name: model for model in reversed(models)}


def read_repository(path: Path, sessions: Sessions, releases: Sequence[Release]) -> Repository:
    """Every folder of the repository is a model to Triton."""
    names = [release.name for release in releases]
    models: list[Model] = []
    if (path / CONFIG_FILE).is_file():  # it is one model, not a repository
        return Repository(path, models, releases)
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        models += [Model(path, folder, config, sessions, names) for config in _configs(folder)]
    return Repository(path, models, releases)


def _configs(folder: Path) -> Iterator[Path | None]:
    default = folder / CONFIG_FILE
    others = sorted((folder / OTHER_CONFIGS).glob("*.pbtxt"))
    if default.is_file() or not others:
        yield default if default.is_file() else None
    yield from (other for other in others if other.is_file())
