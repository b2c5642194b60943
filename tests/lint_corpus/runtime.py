"""Faults of warm-up, accelerators and parameters."""

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.parts import (
    ACCELERATOR,
    CONFIG,
    DECODE_CONFIG,
    PLAN_CONFIG,
    TEXTS,
    TWO_INPUTS,
    UNBATCHED_DECODE,
    WARMUP,
    edited,
    model,
    parameter,
    plan,
    python,
    without,
)

FAULTS: list[Fault] = []
fault = collect(FAULTS)

fault("TV601", "a wildcard", model(CONFIG + edited(WARMUP, "[ 3, 64 ]", "[ 3, -1 ]")), line=20)
fault(
    "TV601",
    "zero",
    python(
        DECODE_CONFIG + edited(WARMUP, '"x"', '"bytes"', "TYPE_FP32", "TYPE_STRING", "[ 3, 64 ]", "[ 0 ]")
    ),
)
fault("TV602", "an unknown input", model(CONFIG + edited(WARMUP, '"x"', '"input"')), line=20)
fault(
    "TV602",
    "an input left out",
    model(CONFIG + 'input { name: "mask" data_type: TYPE_INT64 dims: [ 3 ] }\n' + WARMUP, TWO_INPUTS),
)
fault("TV602", "none at all", model(CONFIG + 'model_warmup { name: "w" batch_size: 1 }\n'))
fault("TV602", "of a completed config", model('backend: "onnxruntime"\n' + edited(WARMUP, '"x"', '"input"')))
fault("TV603", "the batch in its dims", model(CONFIG + edited(WARMUP, "[ 3, 64 ]", "[ 1, 3, 64 ]")), line=20)
fault("TV603", "other dims", plan(PLAN_CONFIG + edited(WARMUP, "[ 3, 64 ]", "[ 4, 64 ]")))
fault("TV603", "another type", model(CONFIG + edited(WARMUP, "TYPE_FP32", "TYPE_UINT8")))
fault("TV604", "above the maximum", model(CONFIG + edited(WARMUP, "size: 1", "size: 16")), line=19)
fault("TV604", "none", model(CONFIG + without(WARMUP, "  batch_size: 1\n")), severity="warning")
fault(
    "TV604",
    "without batching",
    python(
        UNBATCHED_DECODE
        + edited(
            WARMUP, '"x"', '"bytes"', "TYPE_FP32", "TYPE_STRING", "[ 3, 64 ]", "[ 1 ]", "size: 1", "size: 2"
        )
    ),
)
for what, texts in {
    "a text without its length": b"abc",
    "lines": b"abc\n",
    "a text too many": b"\1\0\0\0a" * 2,
    "a text cut short": b"\5\0\0\0abc",
    "no text": b"",
}.items():
    fault("TV605", what, python(DECODE_CONFIG + TEXTS, **{"decode/warmup/a": texts}), line=10)
fault("TV605", "no data", model(CONFIG + without(WARMUP, " zero_data: true")), line=20)
fault("TV605", "no file", model(CONFIG + edited(WARMUP, "zero_data: true", 'input_data_file: "x.raw"')))
fault(
    "TV605",
    "a short file",
    model(
        CONFIG + edited(WARMUP, "zero_data: true", 'input_data_file: "x.raw"'),
        **{"m/warmup/x.raw": b"\0" * 767},
    ),
)

fault("TV701", "another case", model(CONFIG + edited(ACCELERATOR, '"tensorrt"', '"TensorRT"')))
fault(
    "TV701",
    "OpenVINO on the GPU",
    model(
        CONFIG
        + 'optimization { execution_accelerators { gpu_execution_accelerator { name: "openvino" } } }\n'
    ),
)
fault(
    "TV701",
    "an unknown one of the CPU",
    model(
        CONFIG + 'optimization { execution_accelerators { cpu_execution_accelerator { name: "dnnl" } } }\n'
    ),
    line=17,
)
fault(
    "TV702",
    "an unknown key",
    model(CONFIG + edited(ACCELERATOR, '"max_workspace_size_bytes"', '"trt_max_workspace_size"')),
    line=24,
)
fault("TV702", "FP8", model(CONFIG + edited(ACCELERATOR, '"FP32"', '"FP8"')))
fault(
    "TV702",
    "BF16, which came later",
    model(CONFIG + edited(ACCELERATOR, '"FP32"', '"BF16"')),
    also=("TV707",),
)
fault(
    "TV702",
    "the provider's own key",
    model(CONFIG + edited(ACCELERATOR, '"precision_mode" value: "FP32"', '"trt_fp16_enable" value: "1"')),
)
fault(
    "TV702",
    "a flag that is none",
    model(CONFIG + edited(ACCELERATOR, 'enable" value: "1"', 'enable" value: "yes"')),
)
fault("TV702", "a number that is none", model(CONFIG + edited(ACCELERATOR, '"1073741824"', '"1G"')))
fault(
    "TV702",
    "TensorRT's key of CUDA",
    model(
        CONFIG + "optimization { execution_accelerators { gpu_execution_accelerator { "
        'name: "cuda" parameters { key: "trt_engine_cache_enable" value: "1" } } } }\n'
    ),
)
fault(
    "TV707",
    "FP16 by the accelerator",
    model(CONFIG + edited(ACCELERATOR, '"FP32"', '"FP16"')),
    severity="warning",
    line=22,
)
fault("TV703", "a smaller batch", model(CONFIG + edited(ACCELERATOR, "x:8x3x512", "x:4x3x512")), line=27)
fault("TV703", "a batch that begins at 4", model(CONFIG + edited(ACCELERATOR, "x:1x3x32", "x:4x3x32")))
fault(
    "TV703",
    "no opt",
    model(
        CONFIG
        + without(ACCELERATOR, '        parameters { key: "trt_profile_opt_shapes" value: "x:4x3x64" }\n')
    ),
)
fault("TV703", "an unknown input", model(CONFIG + edited(ACCELERATOR, '"x:', '"input:')))
fault("TV703", "sizes in disorder", model(CONFIG + edited(ACCELERATOR, "x:4x3x64", "x:4x3x1024")))
fault(
    "TV703",
    "no batch",
    model(CONFIG + edited(ACCELERATOR, "x:1x3x32", "x:3x32", "x:4x3x64", "x:3x64", "x:8x3x512", "x:3x512")),
)
fault("TV703", "commas for sizes", model(CONFIG + edited(ACCELERATOR, "x:1x3x32", "x:1,3,32")))
fault(
    "TV703",
    "another channel count",
    model(
        CONFIG + edited(ACCELERATOR, "x:1x3x32", "x:1x1x32", "x:4x3x64", "x:4x1x64", "x:8x3x512", "x:8x1x512")
    ),
)
fault(
    "TV704",
    "KIND_CPU",
    model(CONFIG + ACCELERATOR + "instance_group { kind: KIND_CPU }\n"),
    severity="warning",
)
THREADS = 'parameters {{ key: "{}" value {{ string_value: "{}" }} }}\n'
fault("TV705", "execution_mode", model(CONFIG + THREADS.format("execution_mode", "parallel")), line=17)
fault("TV705", "threads", model(CONFIG + THREADS.format("intra_op_thread_count", "auto")))
for name in ("a-b", "a b", "_a", "a:b", "\u00e4"):
    fault(
        "TV708", f"the tag {name}", model(CONFIG + f'metric_tags {{ key: "{name}" value: "v" }}\n'), line=17
    )
fault(
    "TV705",
    "a switch of the Python backend",
    python(DECODE_CONFIG + parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "true")),
    line=7,
)
