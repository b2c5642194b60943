"""Implicit state on pip Triton: what a request leaves to the next of its sequence."""

import numpy as np
import pytest
from onnx import helper
from tritonclient.utils import InferenceServerException

from tests.graphs import (
    FLOAT,
    INT64,
    STRING,
    executions,
    graph,
    inputs_of,
    load,
    publish,
    together,
)
from tests.processes import wait_for_line
from tests.stateful import COMPANY, accumulator, config, oldest, state, step


def test_state_passes_from_request_to_request_by_correlation_id(client, repository):
    load(client, repository, "ids", accumulator(), config())
    values_of = {1: [1, 2, 3], 2**63 - 1: [10, 20, 30], "1": [100, 200, 300], "ein Zähler": [5, 5, 5]}
    totals = {sequence: [] for sequence in values_of}
    for number in range(3):  # interleaved
        for sequence, values in values_of.items():
            flags = "s" * (number == 0) + "e" * (number == 2)
            totals[sequence].append(step(client, "ids", sequence, values[number], flags))
    assert totals == {sequence: np.cumsum(values).tolist() for sequence, values in values_of.items()}


def test_start_begins_with_the_initial_state(client, repository):
    publish(repository, "initial", accumulator(), config(state(initial='data_file: "hundred"')))
    (repository / "initial" / "initial_state").mkdir()
    np.array([100], "<f4").tofile(repository / "initial" / "initial_state" / "hundred")
    client.load_model("initial")
    for _ in range(2):  # the second time after an END
        assert [step(client, "initial", 1, 1, flags) for flags in ("s", "", "e")] == [101, 102, 103]
    assert [step(client, "initial", 1, 1, flags) for flags in ("s", "", "s", "", "e")] == [
        *(101, 102),
        *(101, 102, 103),  # started again before its end: begins anew
    ]
    assert step(client, "initial", 1, 1, "se") == 101


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        # Sorted, the inputs and the outputs come in different orders: core's own pairing swaps them (8586).
        ("crossing", "cache_last_channel", "cache_last_channel_len"),
        ("sorted_alike", "a", "b"),
    ],
)
def test_two_states_stay_apart(client, running, repository, name, first, second):
    model = graph(
        [
            helper.make_node("Add", [first, "x"], [f"{first}_next"]),
            helper.make_node("Add", [second, "one"], [f"{second}_next"]),
            helper.make_node("Identity", [f"{first}_next"], ["y"]),
            helper.make_node("Identity", [f"{second}_next"], ["count"]),
        ],
        [("x", FLOAT, ["n", 1]), (first, FLOAT, ["n", 1]), (second, INT64, ["n", 1])],
        [
            *(("y", FLOAT, ["n", 1]), ("count", INT64, ["n", 1])),
            *((f"{first}_next", FLOAT, ["n", 1]), (f"{second}_next", INT64, ["n", 1])),
        ],
        [("one", np.array([1], np.int64))],
    )
    outputs = """output [ { name: "y" data_type: TYPE_FP32 dims: 1 },
                          { name: "count" data_type: TYPE_INT64 dims: 1 } ]"""
    states = state(first, f"{first}_next"), state(second, f"{second}_next", "INT64")
    load(client, repository, name, model, config(*states, outputs=outputs))
    x = inputs_of({"x": np.array([[2.5]], np.float32)})
    for number in range(1, 5):
        result = client.infer(name, x, sequence_id=7, sequence_start=number == 1, sequence_end=number == 4)
        assert result.as_numpy("y").item() == 2.5 * number
        assert result.as_numpy("count").item() == number
    if name == "crossing":
        wait_for_line(running.log, name, "swaps such states")
    else:
        lines = running.log.read_text().splitlines()
        assert not any(name in line and "swaps such states" in line for line in lines)


def test_a_state_may_grow(client, repository):
    model = graph(
        [
            helper.make_node("Concat", ["seen", "x"], ["seen_next"], axis=1),
            helper.make_node("ReduceSum", ["seen_next", "axes"], ["y"]),
        ],
        [("x", FLOAT, ["n", 1]), ("seen", FLOAT, ["n", "length"])],
        [("y", FLOAT, ["n", 1]), ("seen_next", FLOAT, ["n", "longer"])],
        [("axes", np.array([1], np.int64))],
    )
    outputs = """output [ { name: "y" data_type: TYPE_FP32 dims: 1 },
                          { name: "seen_next" data_type: TYPE_FP32 dims: -1 } ]"""
    growing = state("seen", "seen_next", dims="-1").replace("dims: [ -1 ] zero_data", "dims: [ 1 ] zero_data")
    load(client, repository, "growing", model, config(growing, outputs=outputs))
    for number in range(1, 6):  # the state is among the outputs, too, so that it can be looked at
        flags = "s" * (number == 1) + "e" * (number == 5)
        seen = step(client, "growing", 1, number, flags, output="seen_next")
        assert seen == [0, *range(1, number + 1)]
        assert step(client, "growing", 2, 1, flags) == number  # another, of the same length


def test_sequences_of_different_lengths_share_a_batch(client, running, repository):
    """Their states cannot be joined, so they are run one by one, and all are right."""
    starts = {sequence: sequence for sequence in range(1, 5)}  # the longer, the higher its ID
    for sequence, length in starts.items():
        for number in range(length):
            step(client, "growing", sequence + 10, 1, "s" if number == 0 else "")
    results = together(
        running.grpc_url, [lambda c, s=sequence: step(c, "growing", s + 10, 1, "e") for sequence in starts]
    )
    assert results == [length + 1 for length in starts.values()]


def test_a_state_may_be_strings(client, repository):
    model = graph(
        [helper.make_node("Identity", ["said"], ["y"]), helper.make_node("Identity", ["x"], ["said_next"])],
        [("x", STRING, ["n", 1]), ("said", STRING, ["n", 1])],
        [("y", STRING, ["n", 1]), ("said_next", STRING, ["n", 1])],
    )
    outputs = 'output { name: "y" data_type: TYPE_STRING dims: 1 }'
    states = state("said", "said_next", "STRING", initial="")
    load(client, repository, "echo", model, config(states, x="STRING", outputs=outputs))
    words = [b"eins", "zwölf".encode(), b"", b"drei"]
    flags = ["s", "", "", "e"]
    answers = [step(client, "echo", 1, word, flag, object) for word, flag in zip(words, flags, strict=True)]
    assert answers[1:] == words[:-1]


def test_without_batching_a_state_has_no_batch_dimension(client, repository):
    model = graph(
        [helper.make_node("Add", ["total", "x"], ["total_next"]), helper.make_node("Neg", ["x"], ["y"])],
        [("x", FLOAT, [1]), ("total", FLOAT, [])],
        [("y", FLOAT, [1]), ("total_next", FLOAT, [1])],
    )
    outputs = """output [ { name: "y" data_type: TYPE_FP32 dims: 1 },
                          { name: "total_next" data_type: TYPE_FP32 dims: 1 } ]"""
    load(
        client,
        repository,
        "unbatched",
        model,
        config(batch=0, strategy=oldest(4, preferred=""), outputs=outputs),
    )
    totals = [
        step(client, "unbatched", 1, 2, flags, batch=False, output="total_next") for flags in ("s", "", "e")
    ]
    assert totals == [2, 4, 6]


def test_sequences_are_joined_into_one_execution(client, running, repository):
    load(client, repository, "joined", accumulator(), config(strategy=COMPANY))
    for number in range(1, 4):
        totals = together(
            running.grpc_url,
            [
                lambda c, s=s, n=number: step(c, "joined", s, s, "s" if n == 1 else "e" if n == 3 else "")
                for s in (1, 2, 3, 4)
            ],
        )
        assert totals == [number, number * 2, number * 3, number * 4]
    assert executions(client, "joined", requests=12) == 3


CONTROLS = """
    control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
    control_input { name: "END" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } }
    control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } }
    control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } }"""


def test_the_direct_strategy_keeps_empty_slots_out(client, running, repository):
    """y = 1000 CORRID + 100 START + 10 END + total; the state is masked by START instead of initialised."""
    weights = [("w", np.array([[1000], [100], [10], [1]], np.float32)), ("one", np.array([1], np.float32))]
    model = graph(
        [
            helper.make_node("Cast", ["CORRID"], ["id"], to=FLOAT),
            helper.make_node("Sub", ["one", "START"], ["continues"]),
            helper.make_node("Mul", ["total", "continues"], ["before"]),
            helper.make_node("Mul", ["x", "READY"], ["ready_x"]),
            helper.make_node("Add", ["before", "ready_x"], ["total_next"]),
            helper.make_node("Concat", ["id", "START", "END", "total_next"], ["all"], axis=1),
            helper.make_node("MatMul", ["all", "w"], ["y"]),
        ],
        [
            ("CORRID", INT64, ["n", 1]),
            *((n, FLOAT, ["n", 1]) for n in ("START", "END", "READY", "x", "total")),
        ],
        [("y", FLOAT, ["n", 1]), ("total_next", FLOAT, ["n", 1])],
        weights,
    )
    direct = "direct { max_queue_delay_microseconds: 300000 minimum_slot_utilization: 1 }" + CONTROLS
    load(client, repository, "direct", model, config(state(initial=""), batch=4, strategy=direct))

    def at_once(*requests):
        return together(running.grpc_url, [lambda c, r=r: step(c, "direct", *r) for r in requests])

    assert at_once((1, 1, "s"), (2, 2, "s"), (3, 3, "s")) == [1101, 2102, 3103]
    # Whichever is left out, its slot is empty: its row arrives with garbage, and its state must survive.
    assert at_once((2, 2, ""), (3, 3, "")) == [2004, 3006]
    assert at_once((1, 1, ""), (3, 3, "")) == [1002, 3009]
    assert at_once((1, 1, "e"), (2, 2, "e")) == [1013, 2016]
    assert at_once((3, 3, "e")) == [3022]
    assert client.get_inference_statistics("direct").model_stats[0].inference_stats.fail.count == 0


def test_sequences_stay_with_their_instance(client, repository):
    load(client, repository, "instances", accumulator(), config(instances=3, strategy=oldest(4)))
    for number in range(1, 5):
        for sequence in range(1, 10):
            flags = "s" * (number == 1) + "e" * (number == 4)
            assert step(client, "instances", sequence, sequence, flags) == number * sequence


def test_versions_keep_their_sequences_apart(client, repository):
    publish(repository, "versions", accumulator(), config(more="version_policy { all {} }"), version=1)
    publish(repository, "versions", accumulator(factor=10), version=2)
    client.load_model("versions")
    for number in (1, 2, 3):
        for version, factor in (("1", 1), ("2", 10)):
            flags = "s" * (number == 1) + "e" * (number == 3)
            assert step(client, "versions", 5, 1, flags, model_version=version) == number * factor


def test_outputs_are_completed_and_inputs_of_requests_must_be_named(client, repository):
    """As on NVIDIA's backend, which cannot tell them from those of states."""
    without = f"max_batch_size: 4 sequence_batching {{ {oldest()} {state()} }}"
    with pytest.raises(InferenceServerException, match="has no input, and Triton feeds 'total'"):
        load(client, repository, "completed", accumulator(), without)
    given = without + ' input { name: "x" data_type: TYPE_FP32 dims: 1 }'
    load(client, repository, "completed", accumulator(), given)
    completed = client.get_model_config("completed").config
    assert [output.name for output in completed.output] == ["y", "total_next"]
    assert [step(client, "completed", 1, 2, flags) for flags in ("s", "", "e")] == [2, 4, 6]


@pytest.mark.parametrize("more", ["use_same_buffer_for_input_output: true", ""])
def test_buffer_settings_are_accepted(client, repository, more):
    load(client, repository, "buffers", accumulator(), config(state(more=more)))
    assert [step(client, "buffers", 1, 2, flags) for flags in ("s", "", "e")] == [2, 4, 6]
