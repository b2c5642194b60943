"""What the corpus is made of: configs and sources, files of models, and what makes variants of them."""

from collections.abc import Callable
from pathlib import Path

from onnx import TensorProto

from export.lint.rules import Finding
from tests.lint_corpus.onnx_graphs import (
    FLOAT,
    INT64,
    graph,
)
from tests.lint_corpus.python_sources import MODEL_PY

Files = dict[str, str | bytes | Callable[[Path], object] | None]  # None: an empty folder; or what makes it

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14000000\n"


STAND_INS = (b"plan", b"x")  # of plans: each release has a TensorRT of its own, so no plan is sound for all
PLAN_OF_10_5 = b"ftrt" + bytes(20) + bytes([10, 5, 0, 18]) + bytes(40)  # of 24.10, which pip installs


def but_queues(findings: list[Finding]) -> list[Finding]:
    """Without TV316, which is right of most configs that are about something else."""
    return [finding for finding in findings if finding.code != "TV316"]


def but_stand_ins(repository: Path, findings: list[Finding]) -> list[Finding]:
    """Without what TV115 says of the corpus's stand-ins of plans, which are none."""
    return [
        finding
        for finding in findings
        if finding.code != "TV115"
        or not (repository / finding.file).is_file()
        or (repository / finding.file).read_bytes() not in STAND_INS
    ]


def write(repository: Path, files: Files) -> Path:
    for path, content in files.items():
        file = repository / path
        if content is None:
            file.mkdir(parents=True, exist_ok=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(file)
            continue
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return repository


CONFIG = """\
name: "m"
backend: "onnxruntime"
max_batch_size: 8
input [
  {
    name: "x"
    data_type: TYPE_FP32
    dims: [ 3, -1 ]
  }
]
output {
  name: "y"
  data_type: TYPE_FP32
  dims: [ 10 ]
}
dynamic_batching { }
"""
X, Y = (FLOAT, ["N", 3, "W"]), (FLOAT, ["N", 10])
GRAPH = graph({"x": X}, {"y": Y})

TWO_INPUTS = graph({"x": X, "mask": (INT64, ["N", 3])}, {"y": Y})

STATE_CONFIG = """\
name: "s"
backend: "onnxruntime"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ 5 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 5 ] }
sequence_batching {
  oldest { max_candidate_sequences: 16 }
  control_input [
    { name: "start" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } },
    { name: "id" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
  ]
  state [
    {
      input_name: "a_in"
      output_name: "a_out"
      data_type: TYPE_FP32
      dims: [ 2, 7 ]
      initial_state { name: "zeros" data_type: TYPE_FP32 dims: [ 2, 7 ] zero_data: true }
    },
    {
      input_name: "b_in"
      output_name: "b_out"
      data_type: TYPE_INT64
      dims: [ 1 ]
      initial_state { name: "zeros" data_type: TYPE_INT64 dims: [ 1 ] zero_data: true }
    }
  ]
}
"""
STATE_INPUTS = {
    "x": (FLOAT, ["N", 5]),
    "start": (FLOAT, ["N", 1]),
    "id": (TensorProto.UINT64, ["N", 1]),
    "a_in": (FLOAT, ["N", 2, 7]),
    "b_in": (INT64, ["N", 1]),
}
STATE_OUTPUTS = {"y": (FLOAT, ["N", 5]), "a_out": (FLOAT, ["N", 2, 7]), "b_out": (INT64, ["N", 1])}

DECODE_CONFIG = """\
name: "decode"
backend: "python"
max_batch_size: 8
input { name: "bytes" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "image" data_type: TYPE_FP32 dims: [ 3, 32 ] }
dynamic_batching { }
"""
ENSEMBLE_CONFIG = """\
name: "e"
platform: "ensemble"
max_batch_size: 8
input { name: "file" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "scores" data_type: TYPE_FP32 dims: [ 10 ] }
ensemble_scheduling {
  step [
    {
      model_name: "decode"
      model_version: -1
      input_map { key: "bytes" value: "file" }
      output_map { key: "image" value: "pixels" }
    },
    {
      model_name: "m"
      model_version: -1
      input_map { key: "x" value: "pixels" }
      output_map { key: "y" value: "scores" }
    }
  ]
}
"""
PLAN_CONFIG = CONFIG.replace("onnxruntime", "tensorrt")
WARMUP = """\
model_warmup {
  name: "small"
  batch_size: 1
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3, 64 ] zero_data: true } }
}
"""
TEXTS = """\
model_warmup {
  name: "texts"
  batch_size: 1
  inputs { key: "bytes" value { data_type: TYPE_STRING dims: [ 1 ] input_data_file: "a" } }
}
"""
ACCELERATOR = """\
optimization {
  execution_accelerators {
    gpu_execution_accelerator [
      {
        name: "tensorrt"
        parameters { key: "precision_mode" value: "FP32" }
        parameters { key: "trt_engine_cache_enable" value: "1" }
        parameters { key: "max_workspace_size_bytes" value: "1073741824" }
        parameters { key: "trt_profile_min_shapes" value: "x:1x3x32" }
        parameters { key: "trt_profile_opt_shapes" value: "x:4x3x64" }
        parameters { key: "trt_profile_max_shapes" value: "x:8x3x512" }
      }
    ]
  }
}
"""


def model(config: bytes | str = CONFIG, onnx_graph: bytes | str | None = GRAPH, **more) -> Files:
    files: Files = {"m/config.pbtxt": config}
    if onnx_graph is not None:
        files["m/1/model.onnx"] = onnx_graph
    return files | more


def stateful(config: str = STATE_CONFIG, inputs=STATE_INPUTS, outputs=STATE_OUTPUTS) -> Files:
    return {"s/config.pbtxt": config, "s/1/model.onnx": graph(inputs, outputs)}


def ensemble(config: str = ENSEMBLE_CONFIG, decode: str = DECODE_CONFIG, member: str = CONFIG) -> Files:
    return {
        "e/config.pbtxt": config,
        "e/1": None,
        "decode/config.pbtxt": decode,
        "decode/1/model.py": MODEL_PY,
        **model(member),
    }


def plan(config: str = PLAN_CONFIG) -> Files:
    return {"m/config.pbtxt": config, "m/1/model.plan": b"plan"}


def python(config: str = DECODE_CONFIG, source: str = MODEL_PY, **more) -> Files:
    return {"decode/config.pbtxt": config, "decode/1/model.py": source, **more}


TWO_BRANCHES = """\
platform: "ensemble"
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
ensemble_scheduling { step [
  { model_name: "repeat" model_version: -1
    input_map { key: "I" value: "IN" }
    output_map { key: "O" value: "a" } output_map { key: "P" value: "b" } },
  { model_name: "join" model_version: -1
    input_map { key: "I0" value: "a" } input_map { key: "I1" value: "b" }
    output_map { key: "O" value: "OUT" } }
] }
"""


def integers(kind: str, *names: str) -> str:
    return "".join(f'{kind} {{ name: "{name}" data_type: TYPE_INT32 dims: [ 1 ] }}\n' for name in names)


DECOUPLED = "model_transaction_policy { decoupled: true }\n"


def branches(ensemble_config: str = TWO_BRANCHES, repeat: str = DECOUPLED, **more) -> Files:
    """An ensemble over a decoupled model with two outputs, and one that joins two tensors."""
    return {
        "branch/config.pbtxt": ensemble_config,
        "branch/1": None,
        "repeat/config.pbtxt": 'backend: "python"\n'
        + integers("input", "I")
        + integers("output", "O", "P")
        + repeat,
        "repeat/1/model.py": MODEL_PY,
        "join/config.pbtxt": 'backend: "python"\n' + integers("input", "I0", "I1") + integers("output", "O"),
        "join/1/model.py": MODEL_PY,
        **more,
    }


FOUR = """\
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
dynamic_batching { }
"""


TIMED = """\
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 1, 32, -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 37 ] }
dynamic_batching { }
"""
VIEW_CONFIG = FOUR.replace("[ 4 ] }\noutput", "[ 3, 4 ] }\noutput").replace("[ 4 ]", "[ 12 ]")
DEFAULTED_CONFIG = """\
backend: "onnxruntime"
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] }
input { name: "bias" data_type: TYPE_FP32 dims: [ 4 ] optional: true }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] }
"""


def stored(size: int, where: str = "start", **more) -> Files:
    """The states of STATE_CONFIG, the first from a file of that size."""
    config = STATE_CONFIG.replace("dims: [ 2, 7 ] zero_data: true", f'dims: [ 2, 7 ] data_file: "{where}"')
    return {**stateful(config), "s/initial_state/start": bytes(size), **more}


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


def partial(backend: str, source: str = "") -> Files:
    """A model whose tensors are left for its backend to complete."""
    files: Files = {
        "p/config.pbtxt": f'backend: "{backend}"\nmax_batch_size: 8\n'
        'input { name: "RAW" data_type: TYPE_UINT8 }\noutput { name: "OUT" }\n',
        "p/1/model.py" if backend == "python" else f"p/1/{PARTIAL_FILES[backend]}": source or "x",
    }
    return files


PARTIAL_FILES = {
    "dali": "model.dali",
    "tensorrt": "model.plan",
    "tensorflow": "model.savedmodel/saved_model.pb",
    "mine": "libmine",
    "openvino": "model.xml",
    "pytorch": "model.pt",
}
UNFED_CONFIG = 'backend: "python"\noutput { name: "image" data_type: TYPE_FP32 dims: [ 1 ] }\n'
CHAIN_CONFIG = """\
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 10 ] }
"""
FROM_A_PLAN = """\
platform: "ensemble"
max_batch_size: 8
input { name: "file" data_type: TYPE_UINT8 dims: [ -1 ] }
output { name: "scores" data_type: TYPE_FP32 dims: [ 10 ] }
ensemble_scheduling { step [
  { model_name: "p" model_version: -1
    input_map { key: "RAW" value: "file" } output_map { key: "OUT" value: "pixels" } },
  { model_name: "m" model_version: -1
    input_map { key: "x" value: "pixels" } output_map { key: "y" value: "scores" } }
] }
"""
SWITCHED = {  # two models with the same tensors, and a pipeline that is an ensemble, or one process on a CPU
    **model(),
    "n/config.pbtxt": CONFIG.replace('"m"', '"n"'),
    "n/1/model.onnx": GRAPH,
    "pipeline/config.pbtxt": 'platform: "ensemble"\nmax_batch_size: 8\n'
    'input { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }\n'
    'output { name: "y" data_type: TYPE_FP32 dims: [ 10 ] }\n'
    'ensemble_scheduling { step { model_name: "m" model_version: -1 '
    'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }\n',
    "pipeline/configs/cpu.pbtxt": 'name: "pipeline"\nbackend: "python"\nmax_batch_size: 8\n'
    'input { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }\n'
    'output { name: "y" data_type: TYPE_FP32 dims: [ 10 ] }\ndynamic_batching { }\n'
    + parameter("network", "m")
    + parameter("max_bytes", "33554432"),
    "pipeline/1/model.py": MODEL_PY,
}


def edited(text: str, *pairs: str) -> str:
    """`text` with old, new, old, new ... replaced; each old must be there."""
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in text, old
        text = text.replace(old, new)
    return text


def without(text: str, *lines: str) -> str:
    return edited(text, *(part for line in lines for part in (line, "")))


UNBATCHED_DECODE = edited(without(DECODE_CONFIG, "dynamic_batching { }\n"), "size: 8", "size: 0")

DETECTOR_CONFIG = """\
name: "cars"
backend: "python"
max_batch_size: 4
input { name: "image" data_type: TYPE_UINT8 dims: [ 480, 640, 3 ] }
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ 9, 4 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ 9, 2 ] }
]
dynamic_batching { }
"""
DETECTION_CONFIG = """\
name: "detect_cars"
backend: "python"
input { name: "encoded_image" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "found" data_type: TYPE_FP32 dims: [ -1, 4 ] }
parameters { key: "detector" value { string_value: "cars" } }
parameters { key: "detector_batch" value { string_value: "4" } }
parameters { key: "width" value { string_value: "640" } }
parameters { key: "height" value { string_value: "480" } }
parameters { key: "fit" value { string_value: "letterbox" } }
"""
DETECTION: Files = {  # a detector and its pipeline, as --detector publishes them
    "cars/config.pbtxt": DETECTOR_CONFIG,
    "cars/1/model.py": MODEL_PY,
    "detect_cars/config.pbtxt": DETECTION_CONFIG,
    "detect_cars/labels.txt": "car\nlorry\n",
    "detect_cars/1/model.py": MODEL_PY,
}
