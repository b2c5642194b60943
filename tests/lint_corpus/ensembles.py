"""Faults of ensembles."""

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.onnx_graphs import FLOAT, graph
from tests.lint_corpus.parts import (
    CONFIG,
    DECODE_CONFIG,
    DECOUPLED,
    ENSEMBLE_CONFIG,
    GRAPH,
    TWO_BRANCHES,
    TWO_INPUTS,
    UNBATCHED_DECODE,
    branches,
    edited,
    ensemble,
    integers,
    without,
)
from tests.lint_corpus.python_sources import MODEL_PY

FAULTS: list[Fault] = []
fault = collect(FAULTS)

fault(
    "TV501", "instance_group", ensemble(ENSEMBLE_CONFIG + "instance_group [ { kind: KIND_CPU } ]\n"), line=22
)
fault("TV501", "optimization", ensemble(ENSEMBLE_CONFIG + "optimization { }\n"))
fault("TV501", "model_warmup", ensemble(ENSEMBLE_CONFIG + 'model_warmup { name: "w" batch_size: 1 }\n'))
fault("TV501", "a backend", ensemble(ENSEMBLE_CONFIG + 'backend: "onnxruntime"\n'))
fault("TV502", "no platform", ensemble(without(ENSEMBLE_CONFIG, 'platform: "ensemble"\n')))
fault(
    "TV502",
    "no steps",
    ensemble(
        'name: "e"\nplatform: "ensemble"\ninput { name: "a" data_type: TYPE_FP32 dims: 1 }\n'
        'output { name: "b" data_type: TYPE_FP32 dims: 1 }\n'
    ),
)
fault("TV502", "a step without a model", ensemble(without(ENSEMBLE_CONFIG, 'model_name: "m"')), line=14)
fault(
    "TV502",
    "no inputs",
    ensemble(without(ENSEMBLE_CONFIG, 'input { name: "file" data_type: TYPE_STRING dims: [ 1 ] }\n')),
    also=("TV505",),
)
fault("TV503", "an unknown model", ensemble(edited(ENSEMBLE_CONFIG, '"decode"', '"decoder"')), line=9)
fault(
    "TV503",
    "an unknown version",
    ensemble(edited(ENSEMBLE_CONFIG, '"m"\n      model_version: -1', '"m"\n      model_version: 2')),
    line=16,
)
fault(
    "TV503", "no version", ensemble(edited(ENSEMBLE_CONFIG, '"m"\n      model_version: -1', '"m"')), line=14
)
fault(
    "TV503",
    "a version that the policy does not load",
    {
        **ensemble(edited(ENSEMBLE_CONFIG, '"m"\n      model_version: -1', '"m"\n      model_version: 1')),
        "m/2/model.onnx": GRAPH,
    },
)
fault("TV504", "an unknown input", ensemble(edited(ENSEMBLE_CONFIG, 'key: "x"', 'key: "pixels"')), line=17)
fault("TV504", "an unknown output", ensemble(edited(ENSEMBLE_CONFIG, 'key: "image"', 'key: "img"')), line=12)
fault(
    "TV504",
    "key and value exchanged",
    ensemble(edited(ENSEMBLE_CONFIG, 'key: "bytes" value: "file"', 'key: "file" value: "bytes"')),
    also=("TV505",),
)
fault(
    "TV504",
    "an input left out",
    {
        **ensemble(member=CONFIG + 'input { name: "mask" data_type: TYPE_INT64 dims: [ 3 ] }\n'),
        "m/1/model.onnx": TWO_INPUTS,
    },
)
fault(
    "TV504",
    "a tensor of a completed config",
    {
        **ensemble(
            edited(ENSEMBLE_CONFIG, 'key: "y"', 'key: "z"'),
            member='backend: "onnxruntime"\nmax_batch_size: 8\n',
        )
    },
)
fault(
    "TV505",
    "a typing error in the chain",
    ensemble(edited(ENSEMBLE_CONFIG, 'key: "x" value: "pixels"', 'key: "x" value: "pixel"')),
    line=17,
)
fault(
    "TV505",
    "an unused input",
    ensemble(ENSEMBLE_CONFIG + 'input { name: "more" data_type: TYPE_FP32 dims: [ 1 ] }\n'),
    line=22,
)
fault(
    "TV505",
    "an output that nobody writes",
    ensemble(ENSEMBLE_CONFIG + 'output { name: "more" data_type: TYPE_FP32 dims: [ 1 ] }\n'),
)
TWO_OUTPUTS = DECODE_CONFIG + 'output { name: "size" data_type: TYPE_INT32 dims: [ 2 ] }\n'
fault(
    "TV505",
    "an output that nobody reads",
    ensemble(
        edited(
            ENSEMBLE_CONFIG,
            'output_map { key: "image" value: "pixels" }',
            'output_map { key: "image" value: "pixels" } output_map { key: "size" value: "size" }',
        ),
        TWO_OUTPUTS,
    ),
)
fault(
    "TV505",
    "a tensor written twice",
    ensemble(edited(ENSEMBLE_CONFIG, 'key: "y" value: "scores"', 'key: "y" value: "pixels"')),
    also=("TV506", "TV507", "TV509"),
)
fault(
    "TV506", "the ensemble's input", ensemble(edited(ENSEMBLE_CONFIG, "TYPE_STRING", "TYPE_UINT8")), line=11
)
fault(
    "TV506",
    "UINT8 for FP32 between models",
    ensemble(decode=edited(DECODE_CONFIG, "TYPE_FP32", "TYPE_UINT8")),
    line=17,
)
fault(
    "TV506",
    "the ensemble's output",
    ensemble(edited(ENSEMBLE_CONFIG, "TYPE_FP32 dims: [ 10 ]", "TYPE_FP16 dims: [ 10 ]")),
)
fault("TV507", "between models", ensemble(decode=edited(DECODE_CONFIG, "[ 3, 32 ]", "[ 32, 3 ]")), line=17)
fault("TV507", "the ensemble's output", ensemble(edited(ENSEMBLE_CONFIG, "dims: [ 10 ]", "dims: [ 1000 ]")))
fault(
    "TV507",
    "the batch in the ensemble's dims",
    ensemble(edited(ENSEMBLE_CONFIG, "dims: [ 10 ]", "dims: [ 8, 10 ]")),
)
fault(
    "TV507",
    "a member that does not batch",
    ensemble(decode=edited(UNBATCHED_DECODE, "dims: [ 1 ]", "dims: [ -1, 1 ]", "[ 3, 32 ]", "[ 3, 32, 1 ]")),
)
fault("TV508", "of a config", ensemble(edited(ENSEMBLE_CONFIG, "size: 8", "size: 16")), line=3)
fault(
    "TV508",
    "of a completed config",
    ensemble(edited(ENSEMBLE_CONFIG, "size: 8", "size: 8"), member='backend: "onnxruntime"\n'),
    line=3,
)
fault("TV508", "a member without the batch", ensemble(decode=UNBATCHED_DECODE), severity="warning", line=3)
fault(
    "TV508",
    "a member in the middle of the chain without it",
    {
        **ensemble(member=without(edited(CONFIG, "size: 8", "size: 0"), "dynamic_batching { }")),
        "m/1/model.onnx": graph({"x": (FLOAT, [3, "W"])}, {"y": (FLOAT, [10])}),
    },
    severity="warning",
    line=3,
)
fault(
    "TV508",
    "open dims that are not the batch",
    ensemble(decode=edited(UNBATCHED_DECODE, "dims: [ 1 ]", "dims: [ -1 ]", "[ 3, 32 ]", "[ -1, 3, 32 ]")),
    severity="warning",
)
fault(
    "TV508",
    "one answer for a batch",
    {
        **ensemble(
            member=without(
                edited(CONFIG, "size: 8", "size: 0", "[ 3, -1 ]", "[ -1, 3, -1 ]"), "dynamic_batching { }"
            )
        ),
        "m/1/model.onnx": graph({"x": (FLOAT, ["N", 3, "W"])}, {"y": (FLOAT, [10])}),
    },
    severity="warning",
)
fault(
    "TV509",
    "itself",
    ensemble(edited(ENSEMBLE_CONFIG, 'model_name: "m"', 'model_name: "e"')),
    also=("TV504",),
)
SECOND = edited(
    ENSEMBLE_CONFIG,
    'name: "e"',
    'name: "f"',
    'model_name: "m"',
    'model_name: "e"',
    '"x"',
    '"file"',
    '"y"',
    '"scores"',
)
fault(
    "TV509",
    "by way of another",
    {
        **ensemble(
            edited(ENSEMBLE_CONFIG, 'model_name: "m"', 'model_name: "f"', '"x"', '"file"', '"y"', '"scores"')
        ),
        "f/config.pbtxt": SECOND,
        "f/1": None,
    },
)
CIRCLE = edited(
    ENSEMBLE_CONFIG,
    'input_map { key: "bytes" value: "file" }',
    'input_map { key: "bytes" value: "file" } input_map { key: "hint" value: "scores" }',
)
fault(
    "TV509",
    "two steps that wait for each other",
    ensemble(CIRCLE, DECODE_CONFIG + 'input { name: "hint" data_type: TYPE_FP32 dims: [ 10 ] }\n'),
)
ONE_OUTPUT = without(TWO_BRANCHES, ' output_map { key: "P" value: "b" }')
TWICE = edited(
    ONE_OUTPUT,
    '  { model_name: "join"',
    '  { model_name: "again" model_version: -1\n'
    '    input_map { key: "I" value: "IN" } output_map { key: "O" value: "b" } },\n  { model_name: "join"',
)


def again(more: str) -> dict:
    """A second model that repeats."""
    return {
        "again/config.pbtxt": 'backend: "python"\n' + integers("input", "I") + integers("output", "O") + more,
        "again/1/model.py": MODEL_PY,
    }


fault("TV510", "two of them", branches(TWICE, **again(DECOUPLED)), line=10)
fault("TV510", "the same one twice", branches(edited(TWICE, '"again"', '"repeat"')), line=10)
fault("TV510", "one and one that answers once", branches(TWICE, **again("")), line=10)
fault(
    "TV510",
    "one and the ensemble's input",
    branches(edited(ONE_OUTPUT, 'key: "I1" value: "b"', 'key: "I1" value: "IN"')),
)
fault(
    "TV510",
    "in the answer",
    branches(
        edited(
            ONE_OUTPUT,
            'key: "I1" value: "b"',
            'key: "I1" value: "a"',
            '"OUT" data_type: TYPE_INT32 dims: [ 1 ] }',
            '"OUT" data_type: TYPE_INT32 dims: [ 1 ] }, { name: "ONCE" data_type: TYPE_INT32 dims: [ 1 ] }',
            '  { model_name: "join"',
            '  { model_name: "again" model_version: -1\n'
            '    input_map { key: "I" value: "IN" } output_map { key: "O" value: "ONCE" } },\n'
            '  { model_name: "join"',
        ),
        **again(""),
    ),
)
INNER = (
    'platform: "ensemble"\n'
    + integers("input", "I")
    + integers("output", "O")
    + "ensemble_scheduling { step { "
    'model_name: "repeat" model_version: -1 '
    'input_map { key: "I" value: "I" } output_map { key: "O" value: "O" } } }\n'
)
fault(
    "TV510",
    "by way of an ensemble",
    branches(edited(TWICE, '"again"', '"inner"'), **{"inner/config.pbtxt": INNER, "inner/1": None}),
)
