"""Faults of tensors and graphs."""

from onnx import TensorProto, helper

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.onnx_graphs import FLOAT, INT64, UINT8, UNBATCHED_GRAPH, graph
from tests.lint_corpus.parts import (
    CONFIG,
    DECODE_CONFIG,
    ENSEMBLE_CONFIG,
    PLAN_CONFIG,
    STATE_CONFIG,
    TWO_INPUTS,
    X,
    Y,
    edited,
    ensemble,
    model,
    partial,
    plan,
    python,
    stateful,
    without,
)
from tests.lint_corpus.python_sources import MODEL_PY

FAULTS: list[Fault] = []
fault = collect(FAULTS)

fault("TV201", "both fixed at 1", model(onnx_graph=UNBATCHED_GRAPH))
fault("TV201", "the output alone", model(onnx_graph=graph({"x": X}, {"y": (FLOAT, [1, 10])})), line=14)
fault("TV201", "at 4", model(onnx_graph=graph({"x": (FLOAT, [4, 3, "W"])}, {"y": (FLOAT, [4, 10])})))
fault(
    "TV201",
    "under dims that hold it",
    model(edited(CONFIG, "[ 3, -1 ]", "[ 1, 3, -1 ]", "[ 10 ]", "[ 1, 10 ]"), UNBATCHED_GRAPH),
)
fault(
    "TV201",
    "with tensors left to auto-complete",
    model('backend: "onnxruntime"\nmax_batch_size: 8\n', UNBATCHED_GRAPH),
    line=2,
)
fault(
    "TV201",
    "hidden by a reshape",
    model(edited(CONFIG, "dims: [ 10 ]", "dims: [ 10 ] reshape { shape: [ 1, 10 ] }"), UNBATCHED_GRAPH),
)
fault("TV202", "the batch as -1", model(edited(CONFIG, "[ 3, -1 ]", "[ -1, 3, -1 ]")), line=8)
fault("TV202", "the batch as its maximum", model(edited(CONFIG, "[ 10 ]", "[ 8, 10 ]")), line=14)
fault(
    "TV202",
    "left out without batching",
    model(edited(without(CONFIG, "dynamic_batching { }\n"), "size: 8", "size: 0")),
)
fault(
    "TV202",
    "no max_batch_size at all",
    model(without(CONFIG, "max_batch_size: 8\n", "dynamic_batching { }\n")),
)
fault("TV203", "another size", model(edited(CONFIG, "[ 10 ]", "[ 12 ]")), line=14)
fault(
    "TV203",
    "channels last",
    model(edited(CONFIG, "[ 3, -1 ]", "[ -1, 3 ]"), graph({"x": (FLOAT, ["N", 3, 64])}, {"y": Y})),
)
fault("TV203", "a dim too few", model(edited(CONFIG, "[ 3, -1 ]", "[ 3 ]")))
fault("TV203", "two dims too many", model(edited(CONFIG, "[ 3, -1 ]", "[ 1, 1, 3, -1 ]")))
fault("TV203", "open where the graph is fixed", model(edited(CONFIG, "[ 10 ]", "[ -1 ]")))
fault(
    "TV203", "an open input of a fixed graph", model(onnx_graph=graph({"x": (FLOAT, ["N", 3, 64])}, {"y": Y}))
)
fault(
    "TV203",
    "without batching",
    model(
        edited(
            without(CONFIG, "dynamic_batching { }\n"),
            "size: 8",
            "size: 0",
            "[ 3, -1 ]",
            "[ 1, 4, -1 ]",
            "[ 10 ]",
            "[ 1, 10 ]",
        ),
        UNBATCHED_GRAPH,
    ),
)
fault(
    "TV203",
    "through a reshape",
    model(edited(CONFIG, "dims: [ 10 ]", "dims: [ 12 ] reshape { shape: [ 3, 4 ] }")),
    line=14,
)
fault(
    "TV204",
    "INT8 for UINT8",
    model(
        edited(CONFIG, "    data_type: TYPE_FP32", "    data_type: TYPE_INT8"),
        graph({"x": (UINT8, ["N", 3, "W"])}, {"y": Y}),
    ),
    line=7,
)
fault("TV204", "FP16", model(edited(CONFIG, "TYPE_FP32", "TYPE_FP16")))
fault(
    "TV204",
    "INT32 for INT64",
    model(
        edited(CONFIG, "  data_type: TYPE_FP32\n  dims: [ 10 ]", "  data_type: TYPE_INT32\n  dims: [ 10 ]"),
        graph({"x": X}, {"y": (INT64, ["N", 10])}),
    ),
)
fault("TV205", "an input", model(edited(CONFIG, '"x"', '"input"')), line=6)
fault("TV205", "an output", model(edited(CONFIG, '"y"', '"logits"')), line=12)
fault("TV205", "another case", model(edited(CONFIG, '"x"', '"X"')))
fault("TV205", "as TorchScript names them", model(edited(CONFIG, '"x"', '"input__0"', '"y"', '"output__0"')))
fault(
    "TV205",
    "one of two inputs",
    model(edited(CONFIG, "  }\n]", '  },\n  { name: "mask" data_type: TYPE_INT64 dims: [ 3 ] }\n]')),
)
fault("TV206", "one of two", model(onnx_graph=TWO_INPUTS))
fault(
    "TV206",
    "a control that is not configured",
    stateful(
        without(
            STATE_CONFIG,
            '{ name: "start" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } },\n',
        )
    ),
)
fault(
    "TV207",
    "an output",
    model(CONFIG + 'output { name: "y" data_type: TYPE_FP32 dims: [ 10 ] }\n'),
    severity="warning",
    line=17,
)
fault(
    "TV207",
    "an input",
    model(CONFIG + 'input { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }\n'),
)
fault(
    "TV207",
    "an input of a Python model",
    python(DECODE_CONFIG + 'input { name: "bytes" data_type: TYPE_STRING dims: [ 1 ] }\n'),
    severity="warning",
)
fault(
    "TV208",
    "more elements",
    plan(edited(PLAN_CONFIG, "dims: [ 10 ]", "dims: [ 10 ] reshape { shape: [ 5, 3 ] }")),
    line=14,
)
fault(
    "TV208",
    "other open dims",
    python(edited(DECODE_CONFIG, "[ 3, 32 ]", "[ 3, -1 ] reshape { shape: [ -1, 4 ] }")),
)
fault(
    "TV208",
    "the batch in it",
    plan(edited(PLAN_CONFIG, "dims: [ 10 ]", "dims: [ 10 ] reshape { shape: [ 8, 10 ] }")),
)
NOT_LINEAR = edited(CONFIG, "dims: [ 10 ]", "dims: [ 10 ] is_non_linear_format_io: true")
fault("TV209", "a format that is not linear", model(NOT_LINEAR), line=11)
fault(
    "TV209",
    "such a format of a Python model",
    python(DECODE_CONFIG.replace("[ 1 ]", "[ 1 ] is_non_linear_format_io: true")),
)
fault(
    "TV209",
    "such a format of an ensemble",
    ensemble(ENSEMBLE_CONFIG.replace("[ 10 ]", "[ 10 ] is_non_linear_format_io: true")),
)
fault(
    "TV209",
    "a shape tensor of an ensemble",
    ensemble(ENSEMBLE_CONFIG.replace("[ 10 ]", "[ 10 ] is_shape_tensor: true")),
)
fault("TV209", "such a format of two dims", plan(edited(NOT_LINEAR, "onnxruntime", "tensorrt")))
fault("TV209", "a size of 0", python(edited(DECODE_CONFIG, "[ 3, 32 ]", "[ 0, 32 ]")), line=5)
fault("TV209", "a size of -2", plan(edited(PLAN_CONFIG, "[ 3, -1 ]", "[ 3, -2 ]")))
fault("TV209", "no dims", python(edited(DECODE_CONFIG, "TYPE_STRING dims: [ 1 ]", "TYPE_STRING")))
fault("TV209", "no data_type", model(edited(CONFIG, "    data_type: TYPE_FP32\n", "")))
fault("TV209", "no name", python(edited(DECODE_CONFIG, 'name: "image" ', "")))
fault(
    "TV209",
    "a format of two dims",
    plan(edited(PLAN_CONFIG, "[ 3, -1 ]", "[ 3, -1 ]\n    format: FORMAT_NCHW")),
)
fault(
    "TV209",
    "an empty reshape without batching",
    python(
        edited(
            without(DECODE_CONFIG, "dynamic_batching { }\n"),
            "size: 8",
            "size: 0",
            "dims: [ 1 ]",
            "dims: [ 1 ] reshape { }",
        )
    ),
)
fault(
    "TV209",
    "an optional input with batching",
    model(edited(CONFIG, "dims: [ 3, -1 ]", "dims: [ 3, -1 ]\n    optional: true")),
)
fault(
    "TV209",
    "a shape tensor",
    model(edited(CONFIG, "dims: [ 3, -1 ]", "dims: [ 3, -1 ]\n    is_shape_tensor: true")),
)
fault("TV210", "opset 23", model(onnx_graph=graph({"x": X}, {"y": Y}, opset=23)))
fault("TV211", "IR version 11", model(onnx_graph=graph({"x": X}, {"y": Y}, ir_version=11)))
fault(
    "TV212",
    "bfloat16",
    model(
        edited(CONFIG, "  data_type: TYPE_FP32\n  dims: [ 10 ]", "  data_type: TYPE_BF16\n  dims: [ 10 ]"),
        graph({"x": X}, {"y": (TensorProto.BFLOAT16, ["N", 10])}),
    ),
)
ZIPMAP = helper.make_value_info(
    "y",
    helper.make_sequence_type_proto(
        helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    ),
)
fault("TV212", "the map of scikit-learn", model(onnx_graph=graph({"x": X}, {"y": ZIPMAP})))
fault(
    "TV212",
    "text in a plan",
    plan(edited(PLAN_CONFIG, "    data_type: TYPE_FP32", "    data_type: TYPE_STRING")),
)
RAGGED = (
    'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "count" data_type: TYPE_INT32 source_input: "x" }\n'
)
fault("TV213", "an unknown source", plan(PLAN_CONFIG + edited(RAGGED, '"x"', '"z"')), line=17)
fault("TV213", "another type", plan(PLAN_CONFIG + edited(RAGGED, "TYPE_INT32", "TYPE_INT64")))
fault(
    "TV213",
    "an unknown target",
    plan(
        PLAN_CONFIG
        + 'batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "z" source_input: "x" }\n'
    ),
)
fault(
    "TV214",
    "a size that the graph leaves open",
    model(onnx_graph=graph({"x": X}, {"y": (FLOAT, ["N", "C"])})),
    line=14,
)
fault("TV209", "entries of OpenVINO", partial("openvino"))
fault("TV209", "entries of a TorchScript model", partial("pytorch"), also=("TV301",))
fault("TV209", "entries of a Python model that completes nothing", partial("python", MODEL_PY))
fault(
    "TV206",
    "the outputs of a TorchScript model",
    {"m/config.pbtxt": edited(CONFIG.partition("output")[0], "onnxruntime", "pytorch"), "m/1/model.pt": "x"},
)
BARE_CONFIG = 'backend: "python"\nmax_batch_size: 8\n'
fault("TV206", "a Python model that completes nothing", python(BARE_CONFIG))
fault(
    "TV206",
    "the inputs of a Python model that completes nothing",
    python(BARE_CONFIG + 'output { name: "image" data_type: TYPE_FP32 dims: [ 1 ] }\ndynamic_batching { }\n'),
)
fault(
    "TV206",
    "a Python model that neither takes nor gives",
    python(without(BARE_CONFIG, "max_batch_size: 8\n")),
    severity="warning",
)
SCATTERED = (
    DECODE_CONFIG + 'batch_output { target_name: [ "image", "image" ] '
    'kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "bytes" }\n'
)
fault("TV213", "a target of a batch_output twice", python(SCATTERED), line=7)
fault(
    "TV213",
    "a target of two batch_outputs",
    python(without(SCATTERED, ', "image"') + without(SCATTERED, ', "image"')[len(DECODE_CONFIG) :]),
    severity="warning",
    line=8,
)
fault(
    "TV213",
    "a target of a batch_input twice",
    plan(PLAN_CONFIG + edited(RAGGED, '"count"', '[ "count", "count" ]')),
    severity="warning",
)
fault("TV213", "a target of two batch_inputs", plan(PLAN_CONFIG + RAGGED + RAGGED), line=18)
