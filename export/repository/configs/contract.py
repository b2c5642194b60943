"""The half of `config.pbtxt` that is derived from the spec, as Triton's own protobuf.

The contract is name, backend, maximum batch, inputs, outputs, the states of `sequence_batching`, and the
parameters `weights`, `max_shape` and those of the spec. All other fields are policy, which belongs to people.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.errors import ConfigError
from export.sources.specs.spec import TRITON_TYPES, ModelSpec, State, Tensor
from server.environment.regular_files import read_regular

__all__ = [
    "BACKEND",
    "CONTRACT_FIELDS",
    "LABELS_FILE",
    "MAX_SHAPE_KEY",
    "WEIGHTS_KEY",
    "contract_of",
    "derive_contract",
    "max_shape",
    "merge",
    "parse_config",
    "print_config",
    "read_config_text",
]

BACKEND = "onnxruntime"
LABELS_FILE = "labels.txt"
WEIGHTS_KEY = "weights"  # the parameter that tells clients where the weights come from
MAX_SHAPE_KEY = "max_shape"  # the parameter by which pip Triton's ONNX Runtime backend refuses larger inputs

# `platform` is an older way to say the backend, and contradicts it where both are given.
CONTRACT_FIELDS = ("name", "platform", "backend", "max_batch_size", "input", "output")


def derive_contract(spec: ModelSpec, weights_label: str) -> ModelConfig:
    """The contract of a spec whose graph was made with these weights."""
    config = ModelConfig(name=spec.name, backend=BACKEND, max_batch_size=spec.max_batch_size)
    for tensors, field in ((spec.inputs, config.input), (spec.outputs, config.output)):
        for tensor in tensors:
            _add_tensor(field, tensor, spec.max_batch_size > 0)
    for state in spec.states:
        _add_state(config.sequence_batching.state, state)
    if spec.precision != "fp32":
        weights_label = f"{weights_label.removesuffix(f', {spec.precision}')}, {spec.precision}"
    parameters = {WEIGHTS_KEY: weights_label, **spec.parameters}
    if bounds := max_shape(spec.inputs):
        parameters[MAX_SHAPE_KEY] = bounds
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def max_shape(inputs: Iterable[Tensor]) -> str:
    """The largest sizes of bounded inputs, "NAME=d1,d2;NAME=d1": without the batch, -1 for no bound."""
    return ";".join(
        f"{tensor.name}={','.join(str(tensor.most(index)) for index in range(len(tensor.dims)))}"
        for tensor in inputs
        if any(dim == -1 and tensor.most(index) > 0 for index, dim in enumerate(tensor.dims))
    )


def contract_of(config: ModelConfig, parameters: Collection[str] = (WEIGHTS_KEY,)) -> ModelConfig:
    """The contract fields of a config, alone; `parameters` are the keys of those that belong to it."""
    contract = ModelConfig()
    contract.CopyFrom(config)
    for field, _ in config.ListFields():
        if field.name not in (*CONTRACT_FIELDS, "parameters"):
            contract.ClearField(field.name)
    if config.sequence_batching.state:
        contract.sequence_batching.state.extend(config.sequence_batching.state)
    for key in set(contract.parameters) - set(parameters):
        del contract.parameters[key]
    return contract


def merge(config: ModelConfig, contract: ModelConfig) -> ModelConfig:
    """`config` with its contract fields replaced by those of `contract`, and its policy kept."""
    merged = ModelConfig()
    merged.CopyFrom(config)
    for name in CONTRACT_FIELDS:
        merged.ClearField(name)
    for key in contract.parameters:
        merged.parameters.pop(key, None)
    if merged.HasField("sequence_batching"):
        merged.sequence_batching.ClearField("state")
    merged.MergeFrom(contract)
    return merged


def parse_config(text: str, source: object) -> ModelConfig:
    """Raises `ConfigError` naming `source` when the text is no ModelConfig."""
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise ConfigError(
            f"{source} cannot be parsed: line {error}; correct it, or remove it to start anew"
        ) from error


def read_config_text(path: Path) -> str:
    """The file's text as it is, line ends included, without a byte order mark, at which Triton stops.

    Raises `ConfigError` when it is not UTF-8.
    """
    try:
        return read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error}); save it as that") from error


def print_config(config: Message) -> str:
    """Text that Triton reads, one way to write each config, or a part of one."""
    return text_format.MessageToString(config, use_short_repeated_primitives=True, as_utf8=True)


def _add_tensor(field: Any, tensor: Tensor, batches: bool) -> None:
    # Triton has no dims of a single number: a client sends [1], and the graph gets none.
    entry = field.add(name=tensor.name, data_type=TRITON_TYPES[tensor.dtype], dims=tensor.dims or (1,))
    if not tensor.dims and batches:  # without batches both backends take [1] for a scalar themselves
        entry.reshape.SetInParent()
    if tensor.labels:
        entry.label_filename = LABELS_FILE


def _add_state(field: Any, state: State) -> None:
    tensor = {"data_type": TRITON_TYPES[state.dtype], "dims": state.dims}
    entry = field.add(input_name=state.input_name, output_name=state.output_name, **tensor)
    # Without an initial state a sequence begins with uninitialised memory; without a name Triton refuses it.
    entry.initial_state.add(name="zeros", zero_data=True, **tensor)
