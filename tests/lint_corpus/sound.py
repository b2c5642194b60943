"""The sound repositories, of which the linter must say nothing."""

from tests.lint_corpus.onnx_graphs import (
    BATCH_FIRST,
    CONTRIB,
    CUSTOM,
    CUT_TO_FOUR,
    DEFAULTED,
    LOCAL_FUNCTION,
    TIME_FIRST,
    UNSHAPED,
    VIEW,
    named,
)
from tests.lint_corpus.parts import (
    ACCELERATOR,
    CHAIN_CONFIG,
    CONFIG,
    DECODE_CONFIG,
    DECOUPLED,
    DEFAULTED_CONFIG,
    DETECTION,
    ENSEMBLE_CONFIG,
    FOUR,
    FROM_A_PLAN,
    PLAN_CONFIG,
    STATE_CONFIG,
    SWITCHED,
    TEXTS,
    TIMED,
    TWO_BRANCHES,
    UNBATCHED_DECODE,
    UNFED_CONFIG,
    VIEW_CONFIG,
    WARMUP,
    Files,
    branches,
    edited,
    ensemble,
    model,
    parameter,
    partial,
    plan,
    python,
    stateful,
    stored,
    without,
)
from tests.lint_corpus.python_sources import (
    ANSWERING_PY,
    ASSIGNED_PY,
    BOTH_WAYS_PY,
    CALLING_PY,
    CHAINED_PY,
    COMPLETING_PY,
    FILLING_PY,
    FOLLOWED_PY,
    FROM_A_BASE_PY,
    HANDING_PY,
    IMPORTED_PY,
    IN_BRANCHES_PY,
    INHERITING_PY,
    KEEPING_PY,
    MODEL_PY,
    OPTIONAL_PY,
    READING_PY,
    UNSAFE_PY,
)

SOUND: dict[str, Files] = {
    "graph": model(),
    "a comment that is not UTF-8": model(b"# caf\xe9\n" + CONFIG.encode() + b"# \xff\xfe # \xe9"),
    "U+FFFD in a text": model(CONFIG + 'parameters { key: "k" value { string_value: "\ufffd" } }\n'),
    "states": stateful(),
    "ensemble": ensemble(),
    "detector and pipeline": DETECTION,
    "plan": plan(),
    "python": python(),
    "warm-up": model(CONFIG + WARMUP),
    "accelerator": model(CONFIG + ACCELERATOR),
    "dims by constant folding": model(VIEW_CONFIG, VIEW),
    "dims that are not folded": model(
        VIEW_CONFIG.replace("[ 12 ]", "[ -1 ]") + "optimization { graph { level: 2 } }\n", VIEW
    ),
    "an output without a shape": model(FOUR, UNSHAPED),
    "dims without the batch, which auto-complete adds": model(
        'backend: "onnxruntime"\ninput { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }\n', UNSHAPED
    ),
    "time second": model(TIMED, BATCH_FIRST),
    "time first, and no batching": model(
        edited(
            without(TIMED, "dynamic_batching { }\n"),
            "size: 8",
            "size: 0",
            "[ 1, 32, -1 ]",
            "[ -1, 1, 32, -1 ]",
            "[ -1, 37 ]",
            "[ -1, -1, 37 ]",
        ),
        TIME_FIRST,
    ),
    "a size that the graph leaves open and the config does not": model(
        edited(FOUR, "[ 4 ] }\noutput", "[ 2, 2 ] }\noutput"), CUT_TO_FOUR
    ),
    "a size that only clients know": model(
        edited(FOUR, "[ 4 ] }\noutput", "[ -1, -1 ] }\noutput"), CUT_TO_FOUR
    ),
    **{
        f"dims called {inputs} and {outputs}": model(
            edited(FOUR, "[ 4 ]", "[ -1 ]") + 'model_operations { op_library_filename: "/opt/my.so" }\n',
            named(inputs, outputs),
        )
        for inputs, outputs in (
            (["N", "T"], ["unk__1", "unk__2"]),
            (["?", "?"], ["?", "?"]),
            (["N", "T"], ["N", "T"]),
            (["N", "T"], ["batch_size", "T"]),
            (["N", "T"], ["N", "N"]),
            (["N", "N"], ["M", "N"]),
        )
    },
    "a local function": model(FOUR, LOCAL_FUNCTION),
    "a domain of a library": model(FOUR + 'model_operations { op_library_filename: "/opt/my.so" }\n', CUSTOM),
    "an operator of Microsoft's": model(FOUR, CONTRIB),
    "a default in the graph": model(DEFAULTED_CONFIG, DEFAULTED),
    "DALI takes dali.py, too": {"p/config.pbtxt": partial("dali")["p/config.pbtxt"], "p/1/dali.py": "x"},
    "DALI takes the file that is named": {
        "p/config.pbtxt": partial("dali")["p/config.pbtxt"] + 'default_model_filename: "a.dali"\n',
        "p/1/a.dali": "x",
    },
    "DALI falls back from the file that is named": {
        "p/config.pbtxt": partial("dali")["p/config.pbtxt"] + 'default_model_filename: "a.dali"\n',
        "p/1/dali.py": "x",
    },
    "engine arguments of vLLM": {"l/config.pbtxt": 'backend: "vllm"\n', "l/1/model.json": "{}"},
    "a backend of someone's own has its own files": {
        "p/config.pbtxt": partial("mine")["p/config.pbtxt"],
        "p/1/anything": "x",
    },
    "a Python model without inputs that is not batched": python(UNFED_CONFIG),
    "a Python model that is imported": python(source=IMPORTED_PY),
    "a Python model that is put together": python(source=ASSIGNED_PY),
    "a Python model with a base of its file": python(source=FROM_A_BASE_PY),
    "a Python model with branches": python(source=IN_BRANCHES_PY),
    "a Python model that reads and makes what the config lists": python(source=READING_PY),
    "a Python model that serves several configs": python(source=OPTIONAL_PY),
    "a Python model with a byte order mark": python(source="\ufeff" + ANSWERING_PY),
    "a Python model of Windows": python(source="\ufeff" + ANSWERING_PY.replace("\n", "\r\n")),
    "a Python model in Latin-1": python(
        source=f"# coding: latin-1\nNAME = '\xe9'\n{MODEL_PY}".encode("latin-1")
    ),
    "a Python model with a comment in Latin-1": python(source=f"# \xe9\n{MODEL_PY}".encode("latin-1")),
    "a Python model with a replacement character": python(source=f"NAME = '\ufffd'\n{MODEL_PY}"),
    "a Python model that answers": python(source=ANSWERING_PY),
    "a Python model that answers with an error": python(
        source=edited(MODEL_PY, "return respond(requests)", "for _ in requests:\n            raise OSError")
    ),
    "a Python model that answers later": python(source=KEEPING_PY),
    "a Python model whose requests others answer": python(source=HANDING_PY),
    "a Python model that serves both ways": python(DECODE_CONFIG + DECOUPLED, BOTH_WAYS_PY),
    "a decoupled Python model that sends": python(DECODE_CONFIG + DECOUPLED, READING_PY),
    "a Python model that completes what is written": python(source=FILLING_PY),
    "a Python model that completes on conditions": python(source=FOLLOWED_PY),
    "a Python model that may not complete": python(source=UNSAFE_PY),
    "a Python model that completes by a class method": python(
        source=edited(FILLING_PY, "@staticmethod", "@classmethod", "config(config)", "config(cls, config)")
    ),
    "a Python model that completes without a decorator": python(
        source=without(FILLING_PY, "    @staticmethod\n")
    ),
    "a Python model that passes a tensor on": python(CHAIN_CONFIG, CHAINED_PY, **model()),
    "texts to warm up with": python(DECODE_CONFIG + TEXTS, **{"decode/warmup/a": b"\3\0\0\0abc"}),
    "labels with a byte order mark": model(
        edited(CONFIG, "dims: [ 10 ]", 'dims: [ 10 ] label_filename: "l.txt"'),
        **{"m/l.txt": "\ufeff" + "a\r\n" * 10},
    ),
    "a plan with formats of its own": plan(
        edited(PLAN_CONFIG, "dims: [ 3, -1 ]", "dims: [ 3, 8, 8 ] is_non_linear_format_io: true")
    ),
    "placeholders in texts and comments": model(
        CONFIG + "# ${count}\n" + parameter("tokenizer_dir", "${tokenizer_dir}")
    ),
    "folders beside the versions": model(**{"m/old_2/a": "", "m/0_assets/a": "", "m/1_old/a": ""}),
    "a Python model that calls another": python(source=CALLING_PY, **model()),
    "DALI completes entries": partial("dali"),
    "TensorRT completes entries": partial("tensorrt"),
    "a backend of someone's own completes entries": partial("mine"),
    "a Python model completes entries": partial("python", COMPLETING_PY),
    "a Python model inherits what completes entries": partial("python", INHERITING_PY),
    "an ensemble over entries that DALI completes": {
        "e/config.pbtxt": FROM_A_PLAN,
        "e/1": None,
        **partial("dali"),
        **model(),
    },
    "an ensemble over entries that a plan completes": {
        "e/config.pbtxt": FROM_A_PLAN,
        "e/1": None,
        **partial("tensorrt"),
        **model(),
    },
    "two outputs of one decoupled model": branches(),
    "two branches that answer once": branches(
        TWO_BRANCHES.replace('key: "I1" value: "b"', 'key: "I1" value: "IN"').replace(
            ' output_map { key: "P" value: "b" }', ""
        ),
        "",
    ),
    "a state from a file": stored(56),
    "a state of its own beside an output": stateful(
        STATE_CONFIG.replace("max_batch_size: 4", "max_batch_size: 1")
        + 'output { name: "a_out" data_type: TYPE_FP32 dims: [ 2, 7 ] }\n'
    ),
    "Python models that prepare and finish": ensemble(
        decode=DECODE_CONFIG.replace("dynamic_batching { }\n", "").replace("TYPE_STRING", "TYPE_UINT8"),
        config=ENSEMBLE_CONFIG.replace("TYPE_STRING", "TYPE_UINT8"),
    ),
    "an ensemble over a model with the batch in its dims": ensemble(
        decode=edited(UNBATCHED_DECODE, "dims: [ 1 ]", "dims: [ -1, 1 ]", "[ 3, 32 ]", "[ -1, 3, 32 ]")
    ),
    "an ensemble of single items over a model that does not batch": ensemble(
        config=edited(ENSEMBLE_CONFIG, "size: 8", "size: 1"), decode=UNBATCHED_DECODE
    ),
    "one pipeline under two configs": SWITCHED,
    "parameters": model(
        CONFIG
        + parameter("intra_op_thread_count", "2")
        + parameter("enable_mem_arena", "On")
        + parameter("memory.enable_memory_arena_shrinkage", "cpu:0;gpu:0")
        + parameter("cpu_batch_size", "2")
        + parameter("my_threshold", "0.5")
    ),
}
