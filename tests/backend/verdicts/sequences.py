"""Sequences: their controls and states."""

import numpy as np
from onnx import TensorProto, helper

from tests.graphs import FLOAT, STRING, graph
from tests.stateful import accumulator, state

from .case import FAILS, REFUSED, UNDEFINED, Case, Differs, SomeFail, ask, tensor, unary

INT32, INT64, BOOL = TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
X, Y = tensor("input", "x", 1), tensor("output", "y", 1)
BATCH = "max_batch_size: 4\n"


def controlled(kind=FLOAT, shape=("n", 1), name="start"):
    """y = x + control, as a number"""
    return graph(
        [
            helper.make_node("Cast", [name], ["number"], to=FLOAT),
            helper.make_node("ReduceSum", ["number"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ],
        [("x", FLOAT, ["n", 1]), (name, kind, list(shape))],
        [("y", FLOAT, ["n", 1])],
    )


def control(values="fp32_false_true: [ 0, 1 ]", kind="START", name="start"):
    return f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{kind} {values} }} }}'


def sequences(*sections, strategy="direct { }"):
    return f"instance_group {{ kind: KIND_CPU }} sequence_batching {{ {strategy} {' '.join(sections)} }}"


def steps(*values, sequence=1):
    last = len(values) - 1
    return tuple(
        ask(sequence, "s" * (i == 0) + "e" * (i == last), x=[[value]]) for i, value in enumerate(values)
    )


NUMBERED = steps(1.0, 1.0, 1.0)
SEEN = ({"y": [[2.0]]}, {"y": [[1.0]]}, {"y": [[1.0]]})
SUMS = ({"y": [[1.0]]}, {"y": [[3.0]]}, {"y": [[6.0]]})
COUNTING = steps(1.0, 2.0, 3.0)
OLDEST = "oldest { max_candidate_sequences: 4 }"
START = control()
TOTAL = state()
ECHO = tensor("output", "total_next", 1)
ECHOED = tuple({**answer, "total_next": answer["y"]} for answer in SUMS)
OLDEST_IN_COMPANY = (
    "oldest { max_candidate_sequences: 4 max_queue_delay_microseconds: 500000 preferred_batch_size: [ 4 ] }"
)
STARTS = tuple(ask(number, "s", x=[[float(number)]]) for number in (1, 2, 3, 4))
# What docs/reference/backend.md says of the differences.
NEVER = "A configuration with which every request would fail"
ECHOES = "A state that is listed in `output`, too"

CASES = [
    Case("start_fp32", controlled(), BATCH + X + Y + sequences(START), SEEN, NUMBERED),
    Case("start_int32", controlled(INT32), BATCH + X + Y + sequences(control("int32_false_true: [ 0, 1 ]")),
         SEEN,
         NUMBERED),
    Case("start_bool", controlled(BOOL),
         BATCH + X + Y + sequences(control("bool_false_true: [ false, true ]")),
         SEEN, NUMBERED),
    Case("start_type", controlled(INT32), BATCH + X + Y + sequences(START), REFUSED, says="start"),
    Case("start_type_bool", controlled(BOOL), BATCH + X + Y + sequences(START), REFUSED, says="start"),
    Case("start_dims", controlled(shape=("n", 2)), BATCH + X + Y + sequences(START), REFUSED, says="start"),
    Case("start_open", controlled(shape=("n", "k")), BATCH + X + Y + sequences(START), REFUSED, says="start"),
    Case("start_rank_1", controlled(shape=("n",)), BATCH + X + Y + sequences(START), REFUSED, says="start"),
    Case("start_rank_1_0", graph(
        [helper.make_node("Add", ["x", "start"], ["y"])], [("x", FLOAT, [1]), ("start", FLOAT, [1])],
        [("y", FLOAT, [1])]), X + Y + sequences(START), ({"y": [2.0]}, {"y": [1.0]}),
        (ask(1, "s", x=[1.0]), ask(1, "e", x=[1.0]))),
    Case("start_unknown", unary(["n", 1]), BATCH + X + Y + sequences(START), REFUSED, says="start"),
    Case("start_misnamed", controlled(name="begin"), BATCH + X + Y + sequences(START), REFUSED, says="start"),
    Case("start_in_input", controlled(), BATCH + X + tensor("input", "start", 1) + Y + sequences(START),
         REFUSED,
         says="start"),
    Case("start_in_input_instead", controlled(), BATCH + tensor("input", "start", 1) + Y + sequences(START),
         (FAILS,), (ask(1, "s", start=[[1.0]]),), says="start", differs=Differs(REFUSED, NEVER, "TV401")),
    Case("start_twice", controlled(), BATCH + X + Y + sequences(START, START), REFUSED),
    Case("start_two_tensors", controlled(), BATCH + X + Y + sequences(START, control(name="begin")), REFUSED),
    Case("start_no_values", controlled(), BATCH + X + Y + sequences(control("")), REFUSED),
    Case("start_three_values", controlled(),
         BATCH + X + Y + sequences(control("fp32_false_true: [ 0, 1, 2 ]")),
         REFUSED),
    Case("start_two_kinds", controlled(),
         BATCH + X + Y + sequences(control("fp32_false_true: [ 0, 1 ] int32_false_true: [ 0, 1 ]")), REFUSED),
    Case("ready_fp32", controlled(name="ready"), BATCH + X + Y + sequences(control(kind="READY",
         name="ready")),
         ({"y": [[2.0]]},) * 3, NUMBERED),
    Case("end_fp32", controlled(name="end"), BATCH + X + Y + sequences(control(kind="END", name="end")),
         ({"y": [[1.0]]}, {"y": [[1.0]]}, {"y": [[2.0]]}), NUMBERED),
    Case("corrid_int64", controlled(INT64, name="id"),
         BATCH + X + Y + sequences(control("data_type: TYPE_INT64", "CORRID", "id")), ({"y": [[8.0]]},) * 3,
         steps(1.0, 1.0, 1.0, sequence=7)),
    Case("corrid_uint64", controlled(TensorProto.UINT64, name="id"),
         BATCH + X + Y + sequences(control("data_type: TYPE_UINT64", "CORRID", "id")), ({"y": [[8.0]]},) * 3,
         steps(1.0, 1.0, 1.0, sequence=7)),
    Case("corrid_type", controlled(INT64, name="id"),
         BATCH + X + Y + sequences(control("data_type: TYPE_INT32", "CORRID", "id")), REFUSED, says="id"),
    Case("corrid_fp32", controlled(FLOAT, name="id"),
         BATCH + X + Y + sequences(control("data_type: TYPE_FP32", "CORRID", "id")), REFUSED),
    Case("corrid_no_type", controlled(INT64, name="id"),
         BATCH + X + Y + sequences(control("", "CORRID", "id")), REFUSED),
    Case("corrid_dims", controlled(INT64, ("n", 2), name="id"),
         BATCH + X + Y + sequences(control("data_type: TYPE_INT64", "CORRID", "id")), REFUSED, says="id"),
    Case("corrid_values", controlled(INT64, name="id"),
         BATCH + X + Y + sequences(control("data_type: TYPE_INT64 int32_false_true: [ 0, 1 ]", "CORRID",
         "id")),
         REFUSED),
    Case("control_of_initializer", graph(
        [helper.make_node("Add", ["x", "start"], ["y"])], [("x", FLOAT, ["n", 1]), ("start", FLOAT, [1, 1])],
        [("y", FLOAT, ["n", 1])], [("start", np.array([[5]], np.float32))]), BATCH + X + Y + sequences(START),
        REFUSED, says="start"),
    Case("no_input", controlled(), BATCH + Y + sequences(START), REFUSED),
    Case("no_input_only_controls", graph([helper.make_node("Neg", ["start"], ["y"])],
         [("start", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])]), BATCH + Y + sequences(START), REFUSED),
    Case("no_input_state", accumulator(), BATCH + Y + sequences(TOTAL), REFUSED),
    Case("no_output_state", accumulator(), BATCH + X + sequences(TOTAL), ECHOED, COUNTING),
    Case("no_input_no_controls", unary(["n", 1]), BATCH + sequences(), ({"y": [[-1.0]]},), (ask(1, "se",
         x=[[1.0]]),)),
    Case("no_config_but_batching", accumulator(), sequences(TOTAL), REFUSED),
    Case("state", accumulator(), BATCH + X + Y + sequences(TOTAL), SUMS, COUNTING),
    Case("state_oldest", accumulator(), BATCH + X + Y + sequences(TOTAL, strategy=OLDEST), SUMS, COUNTING),
    Case("state_0", accumulator(), tensor("input", "x", "-1, 1") + tensor("output", "y", "-1, 1") + sequences(
        state(dims="1, 1")), SUMS, COUNTING),
    Case("state_given_out", accumulator(), BATCH + X + Y + ECHO + sequences(TOTAL),
         ECHOED, COUNTING),
    Case("state_given_out_in_batches", accumulator(), BATCH + X + Y + ECHO + sequences(
         TOTAL, strategy=OLDEST_IN_COMPANY), SomeFail(2), STARTS, joined=True, differs=Differs(
         tuple({"y": [[x]], "total_next": [[x]]} for x in (1.0, 2.0, 3.0, 4.0)), ECHOES, "TV413")),
    Case("state_in_batches", accumulator(), BATCH + X + Y + sequences(TOTAL, strategy=OLDEST_IN_COMPANY),
         tuple({"y": [[value]]} for value in (1.0, 2.0, 3.0, 4.0)), STARTS, joined=True),
    Case("state_in_input", accumulator(), BATCH + X + tensor("input", "total", 1) + Y + sequences(TOTAL),
         REFUSED,
         says="total"),
    Case("state_unknown_in", accumulator(), BATCH + X + Y + sequences(state("sum")), (FAILS,), COUNTING[:1],
         says="sum", differs=Differs(REFUSED, NEVER, "TV405")),
    Case("state_unknown_out", accumulator(), BATCH + X + Y + sequences(state(output="sum_next")), (FAILS,),
         COUNTING[:1], says="sum_next", differs=Differs(REFUSED, NEVER, "TV405")),
    Case("state_missing", accumulator(), BATCH + X + Y + sequences(START), REFUSED),
    Case("state_type", accumulator(), BATCH + X + Y + sequences(state(kind="INT32")), (FAILS,), COUNTING[:1],
         says="total", differs=Differs(REFUSED, NEVER, "TV405")),
    Case("state_dims", accumulator(), BATCH + X + Y + sequences(state(dims="2")), (FAILS,), COUNTING[:1],
         says="total", differs=Differs(REFUSED, NEVER, "TV405")),
    Case("state_rank", accumulator(), BATCH + X + Y + sequences(state(dims="1, 1")), (FAILS,), COUNTING[:1],
         says="total", differs=Differs(REFUSED, NEVER, "TV405")),
    Case("state_twice", accumulator(), BATCH + X + Y + sequences(TOTAL, TOTAL), REFUSED),
    Case("state_initial_dims", accumulator(), BATCH + X + Y + sequences(TOTAL.replace(
        "dims: [ 1 ] zero", "dims: [ 2 ] zero")), REFUSED),
    Case("state_uninitialised", accumulator(), BATCH + X + Y + sequences(state(initial="")), UNDEFINED,
         COUNTING,
         differs=Differs(SUMS, "A state without `initial_state`", "TV404")),
    Case("state_string", graph([helper.make_node("Identity", ["x"], ["kept_next"]),
         helper.make_node("Identity", ["kept"], ["y"])], [("x", STRING, ["n", 1]), ("kept", STRING, ["n",
         1])],
         [("y", STRING, ["n", 1]), ("kept_next", STRING, ["n", 1])]), BATCH + tensor("input", "x", 1,
         "STRING")
         + tensor("output", "y", 1, "STRING") + sequences(state("kept", "kept_next", "STRING")),
         ({"y": [[""]]}, {"y": [["a"]]}), (ask(1, "s", x=[[b"a"]]), ask(1, "e", x=[[b"b"]]))),
    Case("state_batches", accumulator(), BATCH + X + Y + sequences(TOTAL), (FAILS,),
         (ask(1, "s", x=[[1.0], [2.0]]),)),
    Case("no_sequence_id", accumulator(), BATCH + X + Y + sequences(TOTAL), (FAILS,), (ask(x=[[1.0]]),)),
    Case("no_start", accumulator(), BATCH + X + Y + sequences(TOTAL), (FAILS,), (ask(1, x=[[1.0]]),)),
]  # fmt: skip
