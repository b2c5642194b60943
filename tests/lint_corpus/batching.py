"""Faults of batching and instances."""

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.onnx_graphs import UNBATCHED_GRAPH
from tests.lint_corpus.parts import (
    CONFIG,
    DECODE_CONFIG,
    ENSEMBLE_CONFIG,
    PLAN_CONFIG,
    STATE_CONFIG,
    edited,
    ensemble,
    model,
    plan,
    python,
    stateful,
    without,
)
from tests.lint_corpus.python_sources import NETWORK_PY

FAULTS: list[Fault] = []
fault = collect(FAULTS)

fault("TV301", "a graph", model(without(CONFIG, "dynamic_batching { }\n")), severity="warning", line=3)
fault(
    "TV301",
    "a TorchScript model",
    {
        "m/config.pbtxt": edited(without(CONFIG, "dynamic_batching { }\n"), "onnxruntime", "pytorch"),
        "m/1/model.pt": "x",
    },
    severity="warning",
)
fault(
    "TV301",
    "a network in Python",
    python(
        edited(without(DECODE_CONFIG, "dynamic_batching { }\n"), "TYPE_STRING", "TYPE_FP32"),
        source=NETWORK_PY,
    ),
    severity="warning",
)
fault(
    "TV302", "above the maximum", model(edited(CONFIG, "{ }", "{ preferred_batch_size: [ 4, 16 ] }")), line=16
)
fault("TV302", "zero", model(edited(CONFIG, "{ }", "{ preferred_batch_size: [ 0 ] }")))
fault(
    "TV302",
    "without batching",
    python(edited(DECODE_CONFIG, "size: 8", "size: 0", "{ }\n", "{ preferred_batch_size: 4 }\n")),
)
fault(
    "TV302",
    "of sequences",
    stateful(edited(STATE_CONFIG, "sequences: 16", "sequences: 16 preferred_batch_size: 8")),
    line=7,
)
fault(
    "TV302",
    "before auto-complete",
    model('backend: "onnxruntime"\ndynamic_batching { preferred_batch_size: [ 4 ] }\n'),
)
fault("TV303", "a Python model", python(edited(DECODE_CONFIG, "size: 8", "size: 0")), severity="warning")
fault(
    "TV303",
    "a graph of batch 1",
    model('backend: "onnxruntime"\ndynamic_batching { }\n', UNBATCHED_GRAPH),
    severity="warning",
)
fault("TV304", "dynamic and sequence", stateful(STATE_CONFIG + "dynamic_batching { }\n"), line=29)
fault("TV304", "dynamic batching in an ensemble", ensemble(ENSEMBLE_CONFIG + "dynamic_batching { }\n"))
fault(
    "TV305",
    "one",
    model(edited(CONFIG, "{ }", "{ preferred_batch_size: [ 1 ] max_queue_delay_microseconds: 100 }")),
    severity="warning",
)
fault("TV306", "no default", model(edited(CONFIG, "{ }", "{ priority_levels: 2 }")))
fault(
    "TV306",
    "a default out of range",
    model(edited(CONFIG, "{ }", "{ priority_levels: 2 default_priority_level: 3 }")),
)
fault(
    "TV306",
    "a policy out of range",
    model(
        edited(
            CONFIG,
            "{ }",
            "{ priority_levels: 2 default_priority_level: 1 "
            "priority_queue_policy { key: 3 value { max_queue_size: 5 } } }",
        )
    ),
)
fault(
    "TV306",
    "priorities without levels",
    model(edited(CONFIG, "{ }", "{ default_priority_level: 1 }")),
    severity="warning",
)
fault(
    "TV306",
    "ordering and levels",
    model(edited(CONFIG, "{ }", "{ priority_levels: 2 default_priority_level: 1 preserve_ordering: true }")),
)
fault(
    "TV306",
    "ordering and DELAY",
    model(
        edited(
            CONFIG,
            "{ }",
            "{ preserve_ordering: true "
            "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 9 } }",
        )
    ),
)
fault(
    "TV307",
    "milliseconds meant",
    model(edited(CONFIG, "{ }", "{ max_queue_delay_microseconds: 5000000 }")),
    severity="warning",
)
fault(
    "TV307",
    "of sequences",
    stateful(edited(STATE_CONFIG, "sequences: 16", "sequences: 16 max_queue_delay_microseconds: 2000000")),
    severity="warning",
)
fault(
    "TV314",
    "a bounded queue",
    model(
        edited(
            CONFIG, "{ }", "{ max_queue_delay_microseconds: 100 default_queue_policy { max_queue_size: 9 } }"
        )
    ),
    severity="warning",
)
fault(
    "TV314",
    "a time-out, two instances",
    model(
        edited(
            CONFIG,
            "{ }",
            "{ max_queue_delay_microseconds: 9 default_queue_policy { default_timeout_microseconds: 9 } }",
        )
        + "instance_group { kind: KIND_CPU count: 2 }\n"
    ),
    severity="warning",
)
fault("TV308", "zero", model(CONFIG + "instance_group [ { count: 0 } ]\n"), severity="warning", line=17)
fault(
    "TV308", "below zero", model(CONFIG + "instance_group { kind: KIND_CPU count: -1 }\n"), severity="warning"
)
fault(
    "TV308",
    "of the second group",
    model(CONFIG + "instance_group [\n{ kind: KIND_CPU },\n{\ncount: 0 kind: KIND_GPU }\n]\n"),
    line=20,
    severity="warning",
)
fault("TV309", "KIND_GPU", model(CONFIG + "instance_group [ { kind: KIND_GPU } ]\n"), target="cpu", line=17)
fault(
    "TV309",
    "one of two groups",
    model(CONFIG + "instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU gpus: 0 } ]\n"),
    target="cpu",
)
fault("TV309", "ids of any kind", model(CONFIG + "instance_group { gpus: [ 0 ] }\n"), target="cpu", line=17)
fault("TV309", "a plan", plan(), target="cpu")
fault("TV309", "a plan of any kind", plan(PLAN_CONFIG + "instance_group { count: 2 }\n"), target="cpu")
fault("TV310", "of KIND_CPU", model(CONFIG + "instance_group { kind: KIND_CPU gpus: [ 0 ] }\n"), line=17)
fault(
    "TV310", "of KIND_MODEL", python(DECODE_CONFIG + "instance_group { kind: KIND_MODEL gpus: [ 0, 1 ] }\n")
)
fault("TV310", "below zero", model(CONFIG + "instance_group { kind: KIND_GPU gpus: [ -1 ] }\n"))
fault("TV311", "KIND_CPU", plan(PLAN_CONFIG + "instance_group { kind: KIND_CPU }\n"), line=17)
fault(
    "TV311",
    "KIND_MODEL",
    plan(
        edited(PLAN_CONFIG, 'backend: "tensorrt"', 'platform: "tensorrt_plan"')
        + "instance_group { kind: KIND_MODEL }\n"
    ),
)
fault("TV312", "of ONNX Runtime", model(CONFIG + 'instance_group { profile: "0" }\n'))
fault("TV312", "no number", plan(PLAN_CONFIG + 'instance_group { kind: KIND_GPU profile: "fast" }\n'))
fault(
    "TV313", "-1", plan(edited(without(PLAN_CONFIG, "dynamic_batching { }\n"), "size: 8", "size: -1")), line=3
)

BOUND = "max_queue_size: 8 default_timeout_microseconds: 100"
fault("TV316", "nothing", model(CONFIG), severity="warning", line=16)
for name, policy in (
    ("no size", "default_timeout_microseconds: 100"),
    ("no time-out", "max_queue_size: 8"),
    ("late requests wait on", f"{BOUND} timeout_action: DELAY"),
):
    fault(
        "TV316",
        name,
        model(edited(CONFIG, "{ }", f"{{ default_queue_policy {{ {policy} }} }}")),
        severity="warning",
        line=16,
    )
LEVELS = "priority_levels: 2 default_priority_level: 1 priority_queue_policy"
fault(
    "TV316",
    "one of two priorities",
    model(edited(CONFIG, "{ }", f"{{ {LEVELS} {{ key: 1 value {{ {BOUND} }} }} }}")),
    severity="warning",
)
fault(
    "TV316",
    "more priorities than can be counted through",
    model(edited(CONFIG, "{ }", "{ priority_levels: 18446744073709551615 default_priority_level: 1 }")),
    severity="warning",
)
fault(
    "TV316",
    "a slot for two hours",
    stateful(edited(STATE_CONFIG, "oldest {", "max_sequence_idle_microseconds: 7200000000\n  oldest {")),
    severity="warning",
)
