"""Models of the repository that were made of ONNX files: they have no spec, so their graph is what they
promise."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.errors import ConfigError, ExportError
from export.common.wording import counted
from export.pipelines.onnx_files.names import is_of_file
from export.pipelines.onnx_files.spec import FileSpec, FileTensor
from export.pipelines.onnx_files.tensors import FileGraphTensor, check_types, graph_inputs, graph_outputs
from export.repository.configs.contract import (
    LABELS_FILE,
    WEIGHTS_KEY,
    contract_of,
    derive_contract,
    parse_config,
    print_config,
    read_config_text,
)
from export.repository.configs.difference import text_difference
from export.repository.publish import CONFIG_FILE, GRAPH_FILE, newest_version
from server.environment.regular_files import read_regular, regular

if TYPE_CHECKING:
    import onnx

__all__ = ["check_published", "published", "weights_of"]


def published(repository: Path) -> list[str]:
    """The names of all such models."""
    if not repository.is_dir():
        return []
    return sorted(folder.name for folder in repository.iterdir() if is_of_file(weights_of(folder)))


def weights_of(folder: Path) -> str:
    """What the model's configuration says it was made of; "" if nothing."""
    path = folder / CONFIG_FILE
    if folder.name.startswith(".") or not path.is_file():
        return ""
    try:
        config = parse_config(read_config_text(path), path)
    except (ConfigError, OSError):
        return ""
    return config.parameters[WEIGHTS_KEY].string_value if WEIGHTS_KEY in config.parameters else ""


def check_published(name: str, repository: Path) -> list[str]:
    """How its configuration, its labels and its newest graph disagree, as texts to show."""
    import onnx

    folder = repository / name
    path, version = folder / CONFIG_FILE, newest_version(folder)
    if version is None:
        return [f"{folder} has no version with a {GRAPH_FILE}: publish its file again"]
    graph = folder / str(version) / GRAPH_FILE
    try:
        config = parse_config(read_config_text(path), path)
        model = onnx.load(regular(graph), load_external_data=False)
        check_types(model)
    except ExportError as error:
        return [str(error)]
    except Exception as error:  # a damaged file raises whatever protobuf runs into
        return [f"{graph} cannot be read: {error}; publish its file again"]
    expected = derive_contract(_spec(name, config, model), config.parameters[WEIGHTS_KEY].string_value)
    differences = text_difference(
        print_config(contract_of(config)), print_config(expected), f"{path}, its contract", "the graph's"
    )
    return differences + _label_differences(folder, expected)


def _spec(name: str, config: ModelConfig, model: "onnx.ModelProto") -> FileSpec:
    """What the graph means with the batching, the numbers for open dims and the labels of the config."""
    skip = int(config.max_batch_size > 0)
    given = {entry.name: entry for entry in (*config.input, *config.output)}
    labelled = {entry.name for entry in config.output if entry.label_filename}
    tensors = []
    for tensor in (*graph_inputs(model), *graph_outputs(model)):
        labels = list if tensor.name in labelled else None
        tensors.append(FileTensor.of(_as_configured(tensor, given.get(tensor.name), skip), skip, labels))
    count = len(graph_inputs(model))
    return FileSpec(
        name=name,
        inputs=tuple(tensors[:count]),
        outputs=tuple(tensors[count:]),
        max_batch_size=config.max_batch_size,
    )


def _as_configured(tensor: FileGraphTensor, entry: Any, skip: int) -> FileGraphTensor:
    """The configuration may give an open dim of an input a number."""
    dims = tensor.dims or ()
    if entry is None or entry.HasField("reshape") or len(entry.dims) != len(dims) - skip:
        return tensor
    kept = [
        given if isinstance(dim, str) and given > 0 else dim
        for dim, given in zip(dims[skip:], entry.dims, strict=True)
    ]
    return FileGraphTensor(tensor.name, tensor.dtype, (*dims[:skip], *kept))


def _label_differences(folder: Path, contract: ModelConfig) -> list[str]:
    path = folder / LABELS_FILE
    for output in contract.output:
        if not output.label_filename:
            continue
        if not path.is_file():
            return [f"{path} is missing, and output {output.name} names it"]
        count, classes = len(read_regular(path).decode().splitlines()), output.dims[-1]
        if classes not in (-1, count):
            return [f"{path} has {counted(count, 'label')}, and output {output.name} {classes} classes"]
    return []
