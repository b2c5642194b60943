"""Faults of sequences and caches."""

from onnx import TensorProto

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.onnx_graphs import FLOAT, INT64
from tests.lint_corpus.parts import (
    DECODE_CONFIG,
    STATE_CONFIG,
    STATE_INPUTS,
    STATE_OUTPUTS,
    TWO_BRANCHES,
    branches,
    edited,
    integers,
    python,
    stateful,
    stored,
    without,
)
from tests.lint_corpus.python_sources import MODEL_PY

FAULTS: list[Fault] = []
fault = collect(FAULTS)

fault(
    "TV401",
    "a state",
    stateful(STATE_CONFIG + 'input { name: "a_in" data_type: TYPE_FP32 dims: [ 2, 7 ] }\n'),
    line=29,
)
fault(
    "TV401",
    "a control",
    stateful(STATE_CONFIG + 'input { name: "start" data_type: TYPE_FP32 dims: [ 1 ] }\n'),
)
fault(
    "TV401",
    "all of them, by auto-complete",
    stateful(without(STATE_CONFIG, 'input { name: "x" data_type: TYPE_FP32 dims: [ 5 ] }\n')),
    line=5,
)
fault(
    "TV401",
    "a state of a plan",
    {
        "s/config.pbtxt": edited(STATE_CONFIG, "onnxruntime", "tensorrt")
        + 'input { name: "b_in" data_type: TYPE_INT64 dims: [ 1 ] }\n',
        "s/1/model.plan": "x",
    },
)


def crossed(text: str) -> str:
    return edited(text, '"a_out"', '"z_out"')


fault(
    "TV402",
    "by renaming one",
    stateful(crossed(STATE_CONFIG), outputs={**STATE_OUTPUTS, "z_out": STATE_OUTPUTS["a_out"]}),
)
LENGTHS = edited(
    STATE_CONFIG,
    '"a_in"',
    '"cache"',
    '"a_out"',
    '"cache_next"',
    '"b_in"',
    '"cache_len"',
    '"b_out"',
    '"cache_len_next"',
)
fault(
    "TV402",
    "a name that begins another",
    {"s/config.pbtxt": edited(LENGTHS, "onnxruntime", "tensorrt"), "s/1/model.plan": "x"},
)
fault(
    "TV403",
    "no name",
    stateful(edited(STATE_CONFIG, 'name: "zeros" data_type: TYPE_FP32', "data_type: TYPE_FP32")),
    line=18,
)
fault(
    "TV403",
    "open dims",
    stateful(edited(STATE_CONFIG, "TYPE_FP32 dims: [ 2, 7 ] zero", "TYPE_FP32 dims: [ -1, 7 ] zero")),
)
fault(
    "TV403",
    "other dims",
    stateful(edited(STATE_CONFIG, "TYPE_FP32 dims: [ 2, 7 ] zero", "TYPE_FP32 dims: [ 2, 8 ] zero")),
)
fault(
    "TV403",
    "another rank",
    stateful(edited(STATE_CONFIG, "TYPE_FP32 dims: [ 2, 7 ] zero", "TYPE_FP32 dims: [ 1, 2, 7 ] zero")),
)
fault(
    "TV403",
    "another type",
    stateful(edited(STATE_CONFIG, "TYPE_INT64 dims: [ 1 ] zero", "TYPE_INT32 dims: [ 1 ] zero")),
)
fault("TV403", "no data", stateful(edited(STATE_CONFIG, "dims: [ 2, 7 ] zero_data: true", "dims: [ 2, 7 ]")))
fault(
    "TV403",
    "no data file",
    stateful(edited(STATE_CONFIG, "dims: [ 2, 7 ] zero_data: true", 'dims: [ 2, 7 ] data_file: "a"')),
)
fault(
    "TV403",
    "two of them",
    stateful(
        edited(
            STATE_CONFIG,
            "dims: [ 1 ] zero_data: true }",
            "dims: [ 1 ] zero_data: true }\n "
            'initial_state { name: "more" data_type: TYPE_INT64 dims: [ 1 ] zero_data: true }',
        )
    ),
)
BARE_STATES = without(
    STATE_CONFIG, '      initial_state { name: "zeros" data_type: TYPE_INT64 dims: [ 1 ] zero_data: true }\n'
)
fault(
    "TV404",
    "no START either",
    stateful(
        without(
            BARE_STATES,
            '    { name: "start" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } },\n',
        ),
        {k: v for k, v in STATE_INPUTS.items() if k != "start"},
    ),
    severity="warning",
)
fault("TV405", "no input", stateful(edited(STATE_CONFIG, '"a_in"', '"aa_in"')), line=14)
fault("TV405", "no output", stateful(edited(STATE_CONFIG, '"b_out"', '"bb_out"')))
fault(
    "TV405", "another type", stateful(outputs={**STATE_OUTPUTS, "a_out": (TensorProto.FLOAT16, ["N", 2, 7])})
)
fault("TV405", "other dims", stateful(inputs={**STATE_INPUTS, "a_in": (FLOAT, ["N", 2, 9])}))
fault(
    "TV405",
    "PyTorch's layers first",
    stateful(
        inputs={**STATE_INPUTS, "a_in": (FLOAT, [2, "N", 7])},
        outputs={**STATE_OUTPUTS, "a_out": (FLOAT, [2, "N", 7])},
    ),
)
fault("TV405", "a fixed batch", stateful(inputs={**STATE_INPUTS, "a_in": (FLOAT, [1, 2, 7])}))
fault("TV406", "no such input", stateful(edited(STATE_CONFIG, '"start"', '"begin"')), line=9)
fault("TV406", "another type", stateful(edited(STATE_CONFIG, "fp32_false_true", "int32_false_true")))
fault("TV406", "other dims", stateful(inputs={**STATE_INPUTS, "start": (FLOAT, ["N"])}))
fault("TV406", "the ID as INT64", stateful(inputs={**STATE_INPUTS, "id": (INT64, ["N", 1])}))
fault(
    "TV407",
    "no values",
    {
        "s/config.pbtxt": edited(STATE_CONFIG, "onnxruntime", "tensorrt", " fp32_false_true: [ 0, 1 ]", ""),
        "s/1/model.plan": "x",
    },
)
fault("TV407", "three values", stateful(edited(STATE_CONFIG, "[ 0, 1 ]", "[ 0, 1, 2 ]")), line=9)
fault(
    "TV407",
    "two kinds of values",
    stateful(edited(STATE_CONFIG, "[ 0, 1 ]", "[ 0, 1 ] bool_false_true: [ false, true ]")),
)
fault(
    "TV407",
    "an ID of FP32",
    {
        "s/config.pbtxt": edited(STATE_CONFIG, "onnxruntime", "tensorrt", "TYPE_UINT64", "TYPE_FP32"),
        "s/1/model.plan": "x",
    },
)
fault(
    "TV407",
    "START twice",
    {
        "s/config.pbtxt": edited(
            STATE_CONFIG,
            "onnxruntime",
            "tensorrt",
            "CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64",
            "CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ]",
        ),
        "s/1/model.plan": "x",
    },
)
fault("TV408", "a sequence model", stateful(STATE_CONFIG + "response_cache { enable: true }\n"), line=29)
fault(
    "TV408",
    "a decoupled model",
    python(
        without(DECODE_CONFIG, "dynamic_batching { }\n")
        + "response_cache { enable: true }\nmodel_transaction_policy { decoupled: true }\n"
    ),
)
CACHED = "response_cache { enable: true }\n"
ONE_BRANCH = edited(
    TWO_BRANCHES, 'key: "I1" value: "b"', 'key: "I1" value: "a"', ' output_map { key: "P" value: "b" }', ""
)
fault("TV408", "an ensemble over a decoupled model", branches(ONE_BRANCH + CACHED), line=12)
OUTER = (
    'platform: "ensemble"\n'
    + integers("input", "I")
    + integers("output", "O")
    + CACHED
    + 'ensemble_scheduling { step { model_name: "branch" model_version: -1 '
    'input_map { key: "IN" value: "I" } output_map { key: "OUT" value: "O" } } }\n'
)
fault(
    "TV408",
    "by way of an ensemble",
    branches(ONE_BRANCH, **{"outer/config.pbtxt": OUTER, "outer/1": None}),
    line=4,
)
fault(
    "TV409",
    "two buffers",
    stateful(edited(STATE_CONFIG, "dims: [ 2, 7 ]\n", "dims: [ 2, 7 ]\n use_growable_memory: true\n")),
)
fault(
    "TV409",
    "on the CPU",
    stateful(
        edited(
            STATE_CONFIG,
            "dims: [ 2, 7 ]\n",
            "dims: [ 2, 7 ]\n use_growable_memory: true use_same_buffer_for_input_output: true\n",
        )
        + "instance_group { kind: KIND_CPU }\n"
    ),
)
fault(
    "TV410",
    "an input",
    {
        "s/config.pbtxt": edited(STATE_CONFIG, "onnxruntime", "tensorrt", '"b_in"', '"a_in"'),
        "s/1/model.plan": "x",
    },
)
fault(
    "TV410",
    "an output",
    {
        "s/config.pbtxt": edited(STATE_CONFIG, "onnxruntime", "tensorrt", '"b_out"', '"a_out"'),
        "s/1/model.plan": "x",
    },
)
fault(
    "TV411",
    "a Python model",
    {"s/config.pbtxt": edited(STATE_CONFIG, "onnxruntime", "python"), "s/1/model.py": MODEL_PY},
    severity="warning",
)
fault(
    "TV412",
    "a share above 1",
    stateful(
        edited(
            STATE_CONFIG, "oldest { max_candidate_sequences: 16 }", "direct { minimum_slot_utilization: 70 }"
        )
    ),
    line=7,
)
fault(
    "TV412",
    "candidates below 0",
    stateful(edited(STATE_CONFIG, "sequences: 16", "sequences: -1")),
    severity="warning",
)
fault("TV403", "a short file", stored(55), line=18)
fault("TV403", "a long file", stored(57), severity="warning", line=18)
fault(
    "TV403",
    "a file for another type",
    {
        **stateful(
            edited(
                STATE_CONFIG,
                "TYPE_INT64 dims: [ 1 ] zero_data: true",
                'TYPE_INT64 dims: [ 1 ] data_file: "n"',
            )
        ),
        "s/initial_state/n": bytes(4),
    },
)
fault("TV403", "a folder", stored(56, "."), line=18)
fault(
    "TV403", "a file outside the model", stored(56, "../../start", **{"start": bytes(56)}), severity="warning"
)
ECHO = 'output { name: "a_out" data_type: TYPE_FP32 dims: [ 2, 7 ] }\n'
fault("TV413", "listed", stateful(STATE_CONFIG + ECHO), severity="warning", line=15)
fault(
    "TV413",
    "by auto-complete",
    stateful(without(STATE_CONFIG, 'output { name: "y" data_type: TYPE_FP32 dims: [ 5 ] }\n')),
    severity="warning",
)
fault(
    "TV413",
    "with the direct strategy",
    stateful(edited(STATE_CONFIG + ECHO, "oldest { max_candidate_sequences: 16 }", "direct { }")),
    severity="warning",
)
