"""Faults of model.py: its text, its methods, what it completes, answers and calls."""

from tests.lint_corpus.faults import Fault, collect
from tests.lint_corpus.parts import (
    CHAIN_CONFIG,
    DECODE_CONFIG,
    DECOUPLED,
    edited,
    model,
    python,
    without,
)
from tests.lint_corpus.python_sources import (
    ANSWERING_PY,
    CHAINED_PY,
    FILLING_PY,
    MODEL_PY,
    READING_PY,
)

FAULTS: list[Fault] = []
fault = collect(FAULTS)

LATIN = "name = '\xe9'\n"
fault("TV113", "a text in Latin-1", python(source=(LATIN + MODEL_PY).encode("latin-1")), line=1)
fault("TV113", "a name in Latin-1", python(source=f"\xe9 = 1\n{MODEL_PY}".encode("latin-1")), line=1)
fault("TV113", "UTF-16", python(source=MODEL_PY.encode("utf-16")))
fault("TV113", "an encoding that there is not", python(source=f"# coding: nonesuch\n{MODEL_PY}"))
fault("TV113", "not of its encoding", python(source=f"# coding: ascii\n# \xe9\n{MODEL_PY}"))
fault("TV113", "a mark and another encoding", python(source=f"\ufeff# coding: latin-1\n{MODEL_PY}"))
FINALIZE = f"{MODEL_PY}    def finalize(self, args):\n        pass\n"
fault("TV113", "finalize with args", python(source=FINALIZE), severity="warning", line=4)

UNSTATIC = without(FILLING_PY, "    @staticmethod\n")
fault("TV113", "completes with self", python(source=edited(UNSTATIC, "(config)", "(self, config)")), line=2)
fault("TV113", "completes with cls", python(source=edited(FILLING_PY, "(config)", "(cls, config)")), line=3)
fault("TV113", "completes without a config", python(source=edited(FILLING_PY, "(config)", "()")), line=3)
fault("TV113", "completes and returns nothing", python(source=without(FILLING_PY, "        return config\n")))
fault(
    "TV113", "returns a dict", python(source=edited(FILLING_PY, "return config", "return config.as_dict()"))
)
fault("TV113", "completes later", python(source=edited(FILLING_PY, "def auto", "async def auto")))


def completes(what: str, *pairs: str, config: str = DECODE_CONFIG, line: int) -> None:
    fault("TV113", what, python(config, edited(FILLING_PY, *pairs)), line=line)


DYNAMIC = ("config.set_max_batch_size(8)", "config.set_dynamic_batching()")
SEQUENCES = edited(DECODE_CONFIG, "dynamic_batching { }", "sequence_batching { }")
completes("a key of an input", '"data_type": "TYPE_STRING"', '"dtype": "TYPE_STRING"', line=4)
completes("a key of an output", '"dims": [3, 32]', '"dims": [3, 32], "optional": True', line=5)
completes("an input without dims", ', "dims": [1]', "", line=4)
completes("an input with empty dims", '"dims": [1]', '"dims": []', line=4)
completes("another type", "TYPE_STRING", "TYPE_UINT8", line=4)
completes("other dims", "[3, 32]", "[3, -1]", line=5)
completes("dims of another type", "[3, 32]", "(3, 32)", line=5)
completes("optional where it is not", "[1]}", '[1], "optional": True}', line=4)
completes("a lower max_batch_size", "size(8)", "size(4)", line=6)
completes("two schedulers", *DYNAMIC, config=SEQUENCES, line=6)
completes("a method that there is not", "set_max_batch_size", "set_batch_size", line=6)
completes(
    "a policy that is written",
    "set_max_batch_size(8)",
    'set_model_transaction_policy({"decoupled": True})',
    config=DECODE_CONFIG + "model_transaction_policy { }\n",
    line=6,
)
completes(
    "a policy by another key",
    "set_max_batch_size(8)",
    "set_model_transaction_policy(dict(streams=1))",
    line=6,
)
completes("no type of Triton", "TYPE_FP32", "FP32", config='backend: "python"\n', line=5)
LOOPED = """\
        tensors = [{"name": "more", "data_type": "TYPE_FP32", "dims": [1]}, {"name": "other", "dims": [1]}]
        for tensor in tensors:
            config.add_input(tensor)
"""
fault(
    "TV113",
    "in a loop over what is written out",
    python(source=edited(FILLING_PY, "        config.set_max_batch_size(8)\n", LOOPED)),
    line=8,
)

SILENT = without(ANSWERING_PY, "        return responses\n")
SENT = "request.get_response_sender().send(pb_utils.InferenceResponse([image]))"
fault("TV113", "answers nothing", python(source=SILENT), line=3)
fault("TV113", "returns None", python(source=edited(ANSWERING_PY, "return responses", "return None")), line=3)
fault(
    "TV113", "answers nothing, and waits", python(source=edited(SILENT, "def exec", "async def exec")), line=3
)
fault(
    "TV113",
    "does nothing",
    python(source=edited(MODEL_PY, "return respond(requests)", "pass")),
    line=2,
    severity="warning",
)
fault("TV113", "a tuple", python(source=edited(ANSWERING_PY, "return responses", "return (responses[0],)")))
fault(
    "TV113",
    "one response",
    python(source=edited(READING_PY, SENT, "return pb_utils.InferenceResponse([image])")),
    line=7,
)
fault(
    "TV113",
    "a generator",
    python(source=edited(READING_PY, SENT, "yield pb_utils.InferenceResponse([image])")),
    line=3,
)
fault("TV113", "decoupled, and sends nothing", python(DECODE_CONFIG + DECOUPLED, SILENT), line=3)
fault("TV113", "decoupled, and a list", python(DECODE_CONFIG + DECOUPLED, ANSWERING_PY), line=8)
fault(
    "TV113",
    "decoupled, and an empty list",
    python(DECODE_CONFIG + DECOUPLED, edited(MODEL_PY, "respond(requests)", "[]")),
    severity="warning",
    line=3,
)
fault(
    "TV113",
    "decoupled, sends, and a list",
    python(DECODE_CONFIG + DECOUPLED, READING_PY + "        return []\n"),
    severity="warning",
    line=8,
)


def calls(what: str, *pairs: str, line: int, **more) -> None:
    source = edited(CHAINED_PY, *pairs)
    fault("TV117", what, python(CHAIN_CONFIG, source, **(more or model())), severity="warning", line=line)


calls("sends another input", "inputs=[pixels]", 'inputs=[pb_utils.Tensor("pixels", 1)]', line=7)
calls("sends nothing", "inputs=[pixels]", "inputs=[]", line=7)
calls("asks for another output", '["y"]', '["y", "z"]', line=7)
calls("looks up another output", '(scores, "y")', '(scores, "z")', line=10)
calls(
    "hands on a tensor under its own name",
    "inputs=[pixels]",
    "inputs=[raw]",
    "            pixels = pb_utils",
    "            raw = pb_utils",
    '(request, "x")',
    '(request, "image")',
    line=7,
    **{**model(), "decode/config.pbtxt": CHAIN_CONFIG.replace('"x"', '"image"')},
)
