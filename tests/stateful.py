"""Models with implicit state: small graphs, their configurations, and one request of a sequence."""

import numpy as np
from onnx import helper

from tests.graphs import FLOAT, graph, inputs_of

STATE_BYTES = 64 * 1024  # of LARGE


def accumulator(factor=1.0):
    """total = total + factor * x"""
    return graph(
        [
            helper.make_node("Mul", ["x", "factor"], ["scaled"]),
            helper.make_node("Add", ["total", "scaled"], ["total_next"]),
            helper.make_node("Identity", ["total_next"], ["y"]),
        ],
        [("x", FLOAT, ["n", 1]), ("total", FLOAT, ["n", 1])],
        [("y", FLOAT, ["n", 1]), ("total_next", FLOAT, ["n", 1])],
        [("factor", np.array(factor, np.float32))],
    )


LARGE = graph(  # y is the first of many equal totals
    [
        helper.make_node("Add", ["total", "x"], ["total_next"]),
        helper.make_node("Gather", ["total_next", "first"], ["y"], axis=1),
    ],
    [("x", FLOAT, ["n", 1]), ("total", FLOAT, ["n", STATE_BYTES // 4])],
    [("y", FLOAT, ["n", 1]), ("total_next", FLOAT, ["n", STATE_BYTES // 4])],
    [("first", np.array([0], np.int64))],
)


def state(name="total", output="total_next", kind="FP32", dims="1", initial="zero_data: true", more=""):
    given = f'initial_state {{ name: "initial" data_type: TYPE_{kind} dims: [ {dims} ] {initial} }}'
    return (
        f'state {{ input_name: "{name}" output_name: "{output}" data_type: TYPE_{kind} dims: [ {dims} ] '
        f"{given if initial else ''} {more} }}"
    )


def config(*states, x="FP32", outputs='output { name: "y" data_type: TYPE_FP32 dims: 1 }', **changed):
    """A configuration of one input `x` and one output `y`, with sequence batching."""
    batching = {"batch": 8, "instances": 1, "idle_s": 60, "strategy": oldest(), "more": "", **changed}
    return f"""max_batch_size: {batching["batch"]}
        input {{ name: "x" data_type: TYPE_{x} dims: 1 }} {outputs}
        instance_group {{ count: {batching["instances"]} kind: KIND_CPU }}
        sequence_batching {{
            max_sequence_idle_microseconds: {int(batching["idle_s"] * 1e6)}
            {batching["strategy"]} {" ".join(states or [state()])}
        }} {batching["more"]}"""


def oldest(candidates=32, delay_us=0, preferred="preferred_batch_size: [ 4 ]"):
    delay = f"max_queue_delay_microseconds: {delay_us}"
    return f"oldest {{ max_candidate_sequences: {candidates} {delay} {preferred} }}"


COMPANY = oldest(delay_us=500000)  # waits for a batch of 4
REFUSING = 'parameters { key: "sequence_restart" value { string_value: "refuse" } }'


def step(client, name, sequence, x, flags="", dtype=np.float32, batch=True, output="y", **options):
    """One request of a sequence; flags: s for START, e for END. Returns the value of `output`."""
    x = np.array([[x]] if batch else [x], dtype)
    options.update(sequence_id=sequence, sequence_start="s" in flags, sequence_end="e" in flags)
    return client.infer(name, inputs_of({"x": x}), **options).as_numpy(output).squeeze().tolist()
