"""The repositories that Triton's documentation describes, rebuilt small: no finding but what is right.

The configs say what those of the examples say: of the server (docs/examples), of the Python, stateful and
vLLM backends, and of the tutorials. A finding that is expected is one that the example's user would want.
"""

import pytest
from onnx import TensorProto

from export.common.release import PIP
from export.lint import lint
from tests.lint_corpus.one_worker import one_worker  # noqa: F401 (autouse)
from tests.lint_corpus.onnx_graphs import FLOAT, INT32, graph
from tests.lint_corpus.parts import PLAN_OF_10_5, STATE_CONFIG, Files, but_queues, edited, stateful, write
from tests.lint_corpus.python_sources import MODEL_PY

UINT64, STRING = TensorProto.UINT64, TensorProto.STRING
AUTO_COMPLETE_PY = (
    "class TritonPythonModel:\n"
    "    @staticmethod\n"
    "    def auto_complete_config(config):\n"
    "        config.set_max_batch_size(4)\n"
    "        config.set_dynamic_batching()\n"
    "        config.add_input({'name': 'INPUT0', 'data_type': 'TYPE_FP32', 'dims': [4]})\n"
    "        return config\n"
    "    def execute(self, requests):\n"
    "        return []\n"
)
CPU = "instance_group [{ kind: KIND_CPU }]\n"


def tensors(kind: str, *entries: tuple) -> str:
    """`input` or `output` entries from (name, type, dims[, more])."""
    return "".join(
        f'{kind} [ {{ name: "{name}" data_type: TYPE_{data_type} dims: {list(dims)} {" ".join(more)} }} ]\n'
        for name, data_type, dims, *more in entries
    )


def config(name: str, runs: str, batch: int | None, inputs, outputs, more: str = "") -> str:
    size = "" if batch is None else f"max_batch_size: {batch}\n"
    return f'name: "{name}"\n{runs}\n{size}{tensors("input", *inputs)}{tensors("output", *outputs)}{more}'


def step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    maps = [f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in inputs.items()]
    maps += [f'output_map {{ key: "{key}" value: "{value}" }}' for key, value in outputs.items()]
    return f'step {{ model_name: "{model}" model_version: -1 {" ".join(maps)} }}\n'


ONNX, PYTHON, PLAN = 'platform: "onnxruntime_onnx"', 'backend: "python"', 'platform: "tensorrt_plan"'
SUMS = [("INPUT0", "INT32", [16]), ("INPUT1", "INT32", [16])]
DIFFERENCES = [("OUTPUT0", "INT32", [16]), ("OUTPUT1", "INT32", [16])]


def controls(*names: str) -> str:
    kinds = "".join(
        f'{{ name: "{name}" control [ {{ kind: CONTROL_SEQUENCE_{name} int32_false_true: [ 0, 1 ] }} ] }},'
        for name in names
    )
    return f"control_input [ {kinds[:-1]} ]"


def simple(name: str, data_type: str, element: int) -> Files:
    shape = (element, ["N", 16])
    return {
        f"{name}/config.pbtxt": edited(
            config(name, ONNX, 8, SUMS, DIFFERENCES), "TYPE_INT32", f"TYPE_{data_type}"
        ),
        f"{name}/1/model.onnx": graph(
            {"INPUT0": shape, "INPUT1": shape}, {"OUTPUT0": shape, "OUTPUT1": shape}
        ),
    }


def sequence(name: str, names: tuple[str, ...], strategy: str = "", correlation: str = "") -> Files:
    ends = f"{strategy} {controls(*names)}{correlation}"
    one = ("INPUT", "INT32", [1])
    inputs = {name: (INT32, ["N", 1]) for name in ("INPUT", *names)}
    if correlation:
        inputs["CORRID"] = (UINT64, ["N", 1])
    return {
        f"{name}/config.pbtxt": config(
            name, ONNX, 8, [one], [("OUTPUT", "INT32", [1])], f"sequence_batching {{ {ends} }}\n{CPU}"
        ),
        f"{name}/1/model.onnx": graph(inputs, {"OUTPUT": (INT32, ["N", 1])}),
    }


SERVER: Files = {
    # its graph has batch 1, so batching is off and a reshape adds the dimension
    "densenet_onnx/config.pbtxt": config(
        "densenet_onnx", ONNX, 0,
        [("data_0", "FP32", [3, 224, 224], "format: FORMAT_NCHW reshape { shape: [ 1, 3, 224, 224 ] }")],
        [("fc6_1", "FP32", [1000], 'reshape { shape: [ 1, 1000, 1, 1 ] } label_filename: "labels.txt"')],
    ),
    "densenet_onnx/labels.txt": "label\n" * 1000,
    "densenet_onnx/1/model.onnx": graph(
        {"data_0": (FLOAT, [1, 3, 224, 224])}, {"fc6_1": (FLOAT, [1, 1000, 1, 1])}
    ),
    "inception_onnx/config.pbtxt": config(
        "inception_onnx", ONNX, 128,
        [("input", "FP32", [299, 299, 3], "format: FORMAT_NHWC")],
        [("InceptionV3/Predictions/Softmax", "FP32", [1001], 'label_filename: "inception_labels.txt"')],
    ),
    "inception_onnx/inception_labels.txt": "\n".join(["label"] * 1001),
    "inception_onnx/1/model.onnx": graph(
        {"input": (FLOAT, ["N", 299, 299, 3])}, {"InceptionV3/Predictions/Softmax": (FLOAT, ["N", 1001])}
    ),
    **simple("simple", "INT32", INT32),
    **simple("simple_int8", "INT8", TensorProto.INT8),
    **simple("simple_string", "STRING", STRING),
    **sequence("simple_sequence", ("START", "READY")),
    **sequence(
        "simple_dyna_sequence", ("START", "END", "READY"),
        "max_sequence_idle_microseconds: 10000000 "
        "oldest { max_candidate_sequences: 1024 max_queue_delay_microseconds: 10000 }",
        'control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }',
    ),
    "simple_identity/config.pbtxt": config(
        "simple_identity", 'platform: "tensorflow_savedmodel"', 8,
        [("INPUT0", "STRING", [-1])], [("OUTPUT0", "STRING", [-1])],
    ),
    "simple_identity/1/model.savedmodel/saved_model.pb": "x",
    "inception_graphdef/config.pbtxt": config(
        "inception_graphdef", 'platform: "tensorflow_graphdef"', 128,
        [("input", "FP32", [299, 299, 3], "format: FORMAT_NHWC")], [("scores", "FP32", [1001])],
    ),
    "inception_graphdef/1/model.graphdef": "x",
}  # fmt: skip
SERVER_UNBATCHED = {"inception_onnx", "simple", "simple_int8", "simple_string"}

PYTHON_BACKEND: Files = {
    "add_sub/config.pbtxt": config(
        "add_sub", PYTHON, None, [("INPUT0", "FP32", [4]), ("INPUT1", "FP32", [4])],
        [("OUTPUT0", "FP32", [4]), ("OUTPUT1", "FP32", [4])], CPU,
    ),
    "add_sub/1/model.py": MODEL_PY,
    "bls_sync/config.pbtxt": config(
        "bls_sync", PYTHON, None,
        [("MODEL_NAME", "STRING", [1]), ("INPUT0", "FP32", [4]), ("INPUT1", "FP32", [4])],
        [("OUTPUT0", "FP32", [4]), ("OUTPUT1", "FP32", [4])], CPU,
    ),
    "bls_sync/1/model.py": MODEL_PY,
    "batch_auto_complete/config.pbtxt": 'name: "batch_auto_complete"\nbackend: "python"\n',
    "batch_auto_complete/1/model.py": AUTO_COMPLETE_PY,
    "nobatch_auto_complete/1/model.py": AUTO_COMPLETE_PY,
    "repeat_int32/config.pbtxt": config(
        "repeat_int32", PYTHON, 0,
        [("IN", "INT32", [-1]), ("DELAY", "UINT32", [-1]), ("WAIT", "UINT32", [1])],
        [("OUT", "INT32", [1]), ("IDX", "UINT32", [1])],
        "model_transaction_policy { decoupled: True }\n",
    ),
    "repeat_int32/1/model.py": MODEL_PY,
    "pytorch_handler/config.pbtxt": 'name: "pytorch_handler"\nplatform: "PyTorch"\nbackend: "python"\n',
    "pytorch_handler/1/model.py": "class ResNet50:\n    def forward(self, images):\n        return images\n",
    "pytorch_handler/1/model.pt": "x",
}  # fmt: skip

RESNET_TRT: Files = {
    "preprocess/config.pbtxt": config(
        "preprocess", PYTHON, 256, [("INPUT_0", "UINT8", [-1])], [("OUTPUT_0", "FP32", [3, 224, 224])], CPU
    ),
    "preprocess/1/model.py": MODEL_PY,
    "resnet50_trt/config.pbtxt": config(
        "resnet50_trt", PLAN, 256, [("input", "FP32", [3, -1, -1])],
        [("output", "FP32", [1000], 'label_filename: "labels.txt"')],
    ),
    "resnet50_trt/labels.txt": "label\n" * 1000,
    "resnet50_trt/1/model.plan": PLAN_OF_10_5,
    "ensemble_python_resnet50/config.pbtxt": config(
        "ensemble_python_resnet50", 'platform: "ensemble"', 256,
        [("INPUT", "UINT8", [-1])], [("OUTPUT", "FP32", [1000])],
        "ensemble_scheduling {\n"
        + step("preprocess", {"INPUT_0": "INPUT"}, {"OUTPUT_0": "preprocessed_image"})
        + step("resnet50_trt", {"input": "preprocessed_image"}, {"output": "OUTPUT"})
        + "}\n",
    ),
    "ensemble_python_resnet50/1": None,
}  # fmt: skip

READ_TEXT: Files = {  # the tutorials' ensemble of five models
    "detection_preprocessing/config.pbtxt": config(
        "detection_preprocessing", PYTHON, 256, [("in", "UINT8", [-1])], [("out", "FP32", [-1, -1, 3])], CPU
    ),
    "detection_preprocessing/1/model.py": MODEL_PY,
    "text_detection/config.pbtxt": config(
        "text_detection", ONNX, 256, [("input_images:0", "FP32", [-1, -1, 3])],
        [("sigmoid:0", "FP32", [-1, -1, 1]), ("concat:0", "FP32", [-1, -1, 5])],
    ),
    "text_detection/1/model.onnx": graph(
        {"input_images:0": (FLOAT, ["N", "H", "W", 3])},
        {"sigmoid:0": (FLOAT, ["N", "h", "w", 1]), "concat:0": (FLOAT, ["N", "h", "w", 5])},
    ),
    "detection_postprocessing/config.pbtxt": config(
        "detection_postprocessing", PYTHON, 256,
        [("in_1", "FP32", [-1, -1, 1]), ("in_2", "FP32", [-1, -1, 5]), ("in_3", "FP32", [-1, -1, 3])],
        [("out", "FP32", [-1, -1, -1])], CPU,
    ),
    "detection_postprocessing/1/model.py": MODEL_PY,
    "text_recognition/config.pbtxt": config(
        "text_recognition", ONNX, 256, [("input.1", "FP32", [1, 32, 100])], [("308", "FP32", [26, 37])]
    ),
    "text_recognition/1/model.onnx": graph(
        {"input.1": (FLOAT, ["N", 1, 32, 100])}, {"308": (FLOAT, ["N", 26, 37])}
    ),
    "recognition_postprocessing/config.pbtxt": config(
        "recognition_postprocessing", PYTHON, 256, [("in", "FP32", [26, 37])], [("out", "STRING", [-1])], CPU
    ),
    "recognition_postprocessing/1/model.py": MODEL_PY,
    "ensemble_model/config.pbtxt": config(
        "ensemble_model", 'platform: "ensemble"', 256, [("input_image", "UINT8", [-1])],
        [("recognized_text", "STRING", [-1])],
        "ensemble_scheduling {\n"
        + step("detection_preprocessing", {"in": "input_image"}, {"out": "preprocessed_image"})
        + step(
            "text_detection", {"input_images:0": "preprocessed_image"},
            {"sigmoid:0": "Sigmoid:0", "concat:0": "concat_3:0"},
        )
        + step(
            "detection_postprocessing",
            {"in_1": "Sigmoid:0", "in_2": "concat_3:0", "in_3": "preprocessed_image"},
            {"out": "cropped_images"},
        )
        + step("text_recognition", {"input.1": "cropped_images"}, {"308": "recognition_output"})
        + step("recognition_postprocessing", {"in": "recognition_output"}, {"out": "recognized_text"})
        + "}\n",
    ),
    "ensemble_model/1/.gitkeep": "",
}  # fmt: skip

ACCELERATED: Files = {  # the tutorials' sample of ONNX Runtime with TensorRT
    "text_recognition/config.pbtxt": config(
        "text_recognition", 'backend: "onnxruntime"', 16,
        [("input.1", "FP32", [1, 32, 100])], [("308", "FP32", [26, 37])],
        'model_warmup { name: "text_recognition" batch_size: 16 inputs: { key: "input.1" value: {'
        " data_type: TYPE_FP32 dims: 1 dims: 32 dims: 100 zero_data: true } } }\n"
        "optimization { graph: { level: 1 } execution_accelerators { gpu_execution_accelerator: [ {"
        ' name: "tensorrt", parameters { key: "precision_mode" value: "FP16" },'
        ' parameters { key: "max_workspace_size_bytes" value: "1073741824" } }] } }\n',
    ),
    "text_recognition/1/model.onnx": READ_TEXT["text_recognition/1/model.onnx"],
}  # fmt: skip

OTHERS: Files = {
    "iterative-gpt2/config.pbtxt": (
        'backend: "python"\nsequence_batching { iterative_sequence: true control_input: [{ name: "start" '
        "control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] }] oldest {} }\n"
        "instance_group [ { count: 1 kind: KIND_GPU } ]\n"
    ),
    "iterative-gpt2/1/model.py": edited(AUTO_COMPLETE_PY, "        config.set_dynamic_batching()\n", ""),
    "accumulate_fp32/config.pbtxt": config(
        "accumulate_fp32", 'backend: "stateful"', 16, [("Input", "FP32", [4, -1, 5])],
        [("Output", "FP32", [4, -1, 5])],
        "sequence_batching { oldest { max_candidate_sequences: 1280 max_queue_delay_microseconds: 2000 } "
        'control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID '
        "data_type: TYPE_UINT64 } } }\n"
        'parameters { key: "onnx_file_name" value: { string_value: "accumulate_fp32.onnx" } }\n'
        "instance_group [ { count: 2 kind: KIND_GPU gpus: [0] } ]\n",
    ),
    "accumulate_fp32/1/accumulate_fp32.onnx": "x",
    "resnet50/config.pbtxt": config(
        "resnet50", 'platform: "pytorch_libtorch"', 0,
        [("input__0", "FP32", [3, 224, 224], "reshape { shape: [ 1, 3, 224, 224 ] }")],
        [("output__0", "FP32", [1, 1000, 1, 1], "reshape { shape: [ 1, 1000 ] }")],
    ),
    "resnet50/1/model.pt": "x",
    "keras/config.pbtxt": config(
        "keras", 'platform: "tensorflow_savedmodel"', 0, [("input_1", "FP32", [-1, 224, 224, 3])],
        [("predictions", "FP32", [-1, 1000])],
    ),
    "keras/1/model.savedmodel/saved_model.pb": "x",
    "vae/config.pbtxt": config(
        "vae", PLAN, 8, [("latent_sample", "FP32", [-1, -1, -1])], [("sample", "FP32", [3, -1, -1])],
        "instance_group [ { kind: KIND_GPU } ]\ndynamic_batching {}\n"
        'cc_model_filenames [ { key: "7.5" value: "model.plan.t4" }, '
        '{ key: "8.0" value: "model.plan.a100" } ]\n',
    ),
    "vae/1/model.plan.t4": PLAN_OF_10_5,
    "vae/1/model.plan.a100": PLAN_OF_10_5,
    "vllm_model/config.pbtxt": 'backend: "vllm"\ninstance_group [ { count: 1 kind: KIND_MODEL } ]\n',
    "vllm_model/1/model.json": "{}",
    "stable_diffusion_xl/config.pbtxt": config(
        "stable_diffusion_xl", 'backend: "diffusion"', 1,
        [("prompt", "STRING", [1]), ("negative_prompt", "STRING", [1], "optional: true")],
        [("generated_image", "UINT8", [-1, -1, -1])],
        "dynamic_batching { max_queue_delay_microseconds: 100000 }\n",
    ),
    "stable_diffusion_xl/1/.gitkeep": "",
    "fraud/config.pbtxt": config(
        "fraud", 'backend: "fil"', 32768, [("input__0", "FP32", [500])], [("output__0", "FP32", [1])],
        "dynamic_batching {}\n" 'parameters { key: "model_type" value: { string_value: "xgboost_json" } }\n',
    ),
    "fraud/1/xgboost.json": "{}",
    "dali/config.pbtxt": config(
        "dali", 'backend: "dali"', 256, [("DALI_INPUT_0", "UINT8", [-1])],
        [("DALI_OUTPUT_0", "FP32", [299, 299, 3])],
    ),
    "dali/1/model.dali": "x",
}  # fmt: skip

NO_CONFIG: Files = {
    "onnx_alone/1/model.onnx": SERVER["densenet_onnx/1/model.onnx"],
    "directory/1/model.onnx/model.onnx": SERVER["inception_onnx/1/model.onnx"],
    "plan_alone/1/model.plan": PLAN_OF_10_5,
    "savedmodel/3/model.savedmodel/saved_model.pb": "x",
    "model.identity/1": None,
    "batched/config.pbtxt": "max_batch_size: 16\n",
    "batched/1/model.onnx": SERVER["inception_onnx/1/model.onnx"],
    "other_name/config.pbtxt": 'backend: "onnxruntime"\ndefault_model_filename: "net.onnx"\n',
    "other_name/1/net.onnx": SERVER["inception_onnx/1/model.onnx"],
}

GUIDE: Files = {  # fragments of the user guide
    "ragged/config.pbtxt": config(
        "ragged", 'backend: "onnxruntime"', 16, [("INPUT0", "FP32", [-1], "allow_ragged_batch: true")],
        [("OUTPUT", "FP32", [1])],
        'batch_input [ { kind: BATCH_ACCUMULATED_ELEMENT_COUNT target_name: "INDEX" data_type: TYPE_FP32 '
        'source_input: "INPUT0" } ]\ndynamic_batching { max_queue_delay_microseconds: 100 }\n',
    ),
    "ragged/1/model.onnx": graph(
        {"INPUT0": (FLOAT, ["elements"]), "INDEX": (FLOAT, ["N"])}, {"OUTPUT": (FLOAT, ["N", 1])}
    ),
    "priorities/config.pbtxt": config(
        "priorities", PYTHON, 8, [("a", "FP32", [1])], [("b", "FP32", [1], "reshape { shape: [ ] }")],
        "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 "
        "priority_levels: 2 default_priority_level: 2 "
        "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 9 } "
        "priority_queue_policy { key: 1 value { max_queue_size: 5 } } }\n"
        "version_policy: { specific: { versions: [ 1, 3 ] } }\nresponse_cache { enable: true }\n"
        "instance_group [ { count: 1 kind: KIND_GPU gpus: [ 0, 1, 2 ] rate_limiter { resources [ { "
        'name: "R1" count: 4 } ] priority: 2 } }, { count: 2 kind: KIND_CPU } ]\n',
    ),
    "priorities/1/model.py": MODEL_PY,
    "priorities/3/model.py": MODEL_PY,
    "custom_config/config.pbtxt": config(
        "custom_config", ONNX, 0, [("x", "FP32", [1, 16])], [("y", "FP32", [1, 16])]
    ),
    "custom_config/configs/h100.pbtxt": config(
        "custom_config", ONNX, 0, [("x", "FP32", [1, 16])], [("y", "FP32", [1, 16])],
        "instance_group [ { kind: KIND_GPU } ]\n",
    ),
    "custom_config/1/model.onnx": graph({"x": (FLOAT, [1, 16])}, {"y": (FLOAT, [1, 16])}),
    "scalar/config.pbtxt": config("scalar", ONNX, 0, [("x", "FP32", [2])], [("y", "FP32", [1])]),
    "scalar/1/model.onnx": graph({"x": (FLOAT, [2])}, {"y": (FLOAT, [])}),
    **stateful(
        edited(
            STATE_CONFIG,
            "dims: [ 2, 7 ]\n", "dims: [ -1, 7 ]\n", "dims: [ 2, 7 ] zero", "dims: [ 1, 7 ] zero",
        )
    ),
}  # fmt: skip

LATE: Files = {  # the tutorials had the config of an ensemble in its version folder
    **READ_TEXT,
    "ensemble_model/1/config.pbtxt": READ_TEXT["ensemble_model/config.pbtxt"],
}
del LATE["ensemble_model/config.pbtxt"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            SERVER,
            {(name, "TV301") for name in SERVER_UNBATCHED} | {("simple_string", "TV801")},
            id="server",
        ),
        pytest.param(PYTHON_BACKEND, set(), id="Python backend"),
        pytest.param(RESNET_TRT, set(), id="ensemble"),
        pytest.param(
            READ_TEXT,
            {(name, "TV301") for name in ("text_detection", "text_recognition")},
            id="ensemble of five",
        ),
        pytest.param(ACCELERATED, {("text_recognition", "TV301")}, id="TensorRT in ONNX Runtime"),
        pytest.param(OTHERS, set(), id="other backends"),
        pytest.param(NO_CONFIG, set(), id="auto-complete"),
        pytest.param(
            GUIDE, {("priorities", "TV314"), ("ragged", "TV804")}, id="user guide"
        ),  # a delay beside limits
        pytest.param(
            LATE,
            {(name, "TV301") for name in ("text_detection", "text_recognition")}
            | {("ensemble_model", "TV103")},
            id="config in a version folder",
        ),
    ],
)
def test_examples_have_only_findings_that_are_right(tmp_path, files, expected):
    findings = but_queues(lint(write(tmp_path, files), releases=[PIP]))
    assert {(finding.model, finding.code) for finding in findings} == expected, findings
