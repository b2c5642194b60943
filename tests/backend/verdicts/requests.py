"""Answers, failures, how they are counted; strings; decoupled models; names."""

import numpy as np
from onnx import helper

from tests.graphs import FLOAT, INT64, STRING, graph

from .case import COMPANY, FAILS, REFUSED, Case, Differs, Either, ask, config, tensor, unary

LOOK_UP = graph(  # fails on an index beyond the table
    [helper.make_node("Gather", ["table", "index"], ["value"])],
    [("index", INT64, ["n", 1])],
    [("value", FLOAT, ["n", 1])],
    [("table", np.arange(10, dtype=np.float32))],
)
LOOK_UPS = "max_batch_size: 4\n" + tensor("input", "index", 1, "INT64") + tensor("output", "value", 1)
TEXT = unary(["n", 1], op="Identity", kind=STRING)
TEXTS = config(kind="STRING")
NEG = unary(["n", 1])
DECOUPLED = "model_transaction_policy { decoupled: true }\n"
SCALED = graph(
    [helper.make_node("Mul", ["x", "s"], ["y"])],
    [("x", FLOAT, ["n", 1]), ("s", FLOAT, [])],
    [("y", FLOAT, ["n", 1])],
)
SCALES = "max_batch_size: 4\n" + tensor("input", "x", 1) + tensor("input", "s", 1) + tensor("output", "y", 1)


def index(*values, **more):
    return ask(index=np.array([[value] for value in values]), **more)


def named(name, model=NEG, **more):
    return Case(
        name,
        model,
        config() if model is NEG else TEXTS,
        ({"y": [[-1.0]]},) if model is NEG else ({"y": [["a"]]},),
        (ask(x=[[1.0]]) if model is NEG else ask(x=[[b"a"]]),),
        **more,
    )


RAGGED = "`batch_input`, `batch_output` and ragged batches"

SCALARS = "an input that is a scalar in the graph"

CASES = [
    Case("counted", LOOK_UP, LOOK_UPS, ({"value": [[3.0]]}, FAILS, {"value": [[5.0]]}, (2, 1)),
         (index(3), index(99), index(5)), counted=True),
    Case("counted_text", TEXT, TEXTS, ({"y": [["a"]]}, {"y": [["b"]]}, (2, 0)), (ask(x=[[b"a"]]),
         ask(x=[[b"b"]])),
         counted=True),
    Case("counted_all_fail", LOOK_UP, LOOK_UPS + COMPANY, (FAILS, FAILS, (0, 2)), (index(98), index(99)),
         counted=True, joined=True),
    Case("one_of_a_batch_fails", LOOK_UP, LOOK_UPS + COMPANY, (FAILS,) * 4,
         tuple(map(index, (3, 99, 5, 7))), joined=True, differs=Differs(
         ({"value": [[3.0]]}, FAILS, {"value": [[5.0]]}, {"value": [[7.0]]}),
         "the others are still answered")),
    Case("scalars_of_a_batch", SCALED, SCALES + COMPANY, ({"y": [[2.0]]},) * 2,
         (ask(x=[[1.0]], s=[[2.0]]), ask(x=[[1.0]], s=[[2.0]])), joined=True),
    Case("other_scalars_of_a_batch", SCALED, SCALES + COMPANY,
         Either((({"y": [[2.0]]},) * 2, ({"y": [[3.0]]},) * 2)),
         (ask(x=[[1.0]], s=[[2.0]]), ask(x=[[1.0]], s=[[3.0]])), joined=True,
         differs=Differs(({"y": [[2.0]]}, {"y": [[3.0]]}), SCALARS, "TV217")),
    Case("bad_scalars_of_a_batch", SCALED, SCALES + COMPANY,
         Either((({"y": [[2.0]]}, {"y": [[2.0], [2.0]]}), ({"y": [[3.0]]}, {"y": [[3.0], [3.0]]}))),
         (ask(x=[[1.0]], s=[[2.0]]), ask(x=[[1.0], [1.0]], s=[[3.0], [4.0]])), joined=True,
         differs=Differs(({"y": [[2.0]]}, FAILS), SCALARS, "TV217")),
    Case("decoupled", NEG, config(more=DECOUPLED), ({"y": [[-1.0]]},), (ask(x=[[1.0]], stream=True),)),
    Case("decoupled_text", TEXT, TEXTS + DECOUPLED, ({"y": [["a"]]},), (ask(x=[[b"a"]], stream=True),)),
    Case("decoupled_unary", NEG, config(more=DECOUPLED), (FAILS,), (ask(x=[[1.0]]),)),
    Case("decoupled_fails", LOOK_UP, LOOK_UPS + DECOUPLED, (FAILS, {"value": [[1.0]]}, (1, 1)),
         (index(99, stream=True), index(1, stream=True)), counted=True),
    Case("decoupled_completed", NEG, DECOUPLED, ({"y": [[-1.0]]},), (ask(x=[[1.0]], stream=True),)),
    Case("text_nul", TEXT, TEXTS, ({"y": [["a"]]},), (ask(x=[[b"a\0b"]]),),
         differs=Differs(({"y": [["a\0b"]]},), "NUL", "TV801")),
    Case("text_not_utf8", TEXT, TEXTS, ({"y": [["\udcff"]]},), (ask(x=[[b"\xff"]]),),
         differs=Differs((FAILS,), "BYTES must be UTF-8", "TV801")),
    Case("text_empty", TEXT, TEXTS, ({"y": [[""]]},), (ask(x=[[b""]]),)),
    Case("text_long", TEXT, TEXTS, ({"y": [["ab" * 50000]]},), (ask(x=[[b"ab" * 50000]]),)),
    Case("input_left_out", NEG, config(), (FAILS,), (ask(),)),
    Case("input_too_many", NEG, config(), (FAILS,), (ask(x=[[1.0]], z=[[1.0]]),)),
    Case("type_sent", NEG, config(), (FAILS,), (ask(x=np.array([[1]])),)),
    Case("batch_too_large", NEG, config(), (FAILS,), (ask(x=[[1.0]] * 5),)),
    Case("ragged", graph([helper.make_node("ReduceSum", ["x"], ["total"], keepdims=1),
         helper.make_node("Add", ["x", "total"], ["y"])], [("x", FLOAT, ["k"])], [("y", FLOAT, ["k"])]),
         "max_batch_size: 4\n" + tensor("input", "x", "-1", more="allow_ragged_batch: true")
         + tensor("output", "y", "1", more="reshape { shape: [ ] }"), ({"y": [[4.0]]},), (ask(x=[[2.0]]),),
         says="allow_ragged_batch", differs=Differs(REFUSED, RAGGED, "TV804")),
    Case("batch_input", graph([helper.make_node("Add", ["x", "count"], ["y"])],
         [("x", FLOAT, ["n", 1]), ("count", FLOAT, ["k"])], [("y", FLOAT, ["n", 1])]),
         config(more='batch_input { kind: BATCH_ELEMENT_COUNT target_name: "count" data_type: TYPE_FP32'
         ' source_input: "x" }'), ({"y": [[2.0]]},), (ask(x=[[1.0]]),), says="batch_input",
         differs=Differs(REFUSED, RAGGED, "TV804")),
    Case("batch_output", NEG,
         config(more='batch_output { target_name: "y" kind: BATCH_SCATTER_WITH_INPUT_SHAPE'
         ' source_input: "x" }'), ({"y": [[-1.0]]},), (ask(x=[[1.0]]),), says="batch_output",
         differs=Differs(REFUSED, RAGGED, "TV804")),
    Case("file_missing", NEG, config(more='default_model_filename: "other.onnx"'), REFUSED),
    Case("garbage", b"not an ONNX file", config(), REFUSED),
    Case("empty_file", b"", config(), REFUSED),
    Case("group_named", TEXT, TEXTS + 'instance_group { name: "a b; exit $HOME" kind: KIND_CPU }',
         ({"y": [["a"]]},), (ask(x=[[b"a"]]),)),
    *(named(f"{half} {name}", model) for name in ("space", "(", "semi;colon", "$HOME", "naïve", "&", "'", '"',
      "`id`", "*", "#", "~", "back\\slash", "new\nline", "$(exit 3)") for half, model in
      (("plain", NEG), ("text", TEXT))),
]  # fmt: skip
