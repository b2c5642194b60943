"""Implicit state on pip Triton: what a request leaves to the next of its sequence, and disturbs nobody."""

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from onnx import helper
from tritonclient.utils import InferenceServerException

from server import TritonServer
from tests.graphs import (
    FLOAT,
    INT64,
    STRING,
    executions,
    graph,
    inputs_of,
    load,
    publish,
    sequences,
    together,
)
from tests.processes import descendants, wait_until
from tests.stateful import COMPANY, LARGE, REFUSING, STATE_BYTES, accumulator, config, oldest, state, step


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def running(repository, tmp_path_factory):
    """A server that loads what a test asks for; `log` is its log."""
    publish(repository, "accumulator", accumulator(), config())
    log = tmp_path_factory.mktemp("log") / "triton.log"
    with TritonServer(repository, arguments=["--model-control-mode=explicit"], log=log) as server:
        server.log = log
        yield server


@pytest.fixture
def client(running):
    with grpc.InferenceServerClient(running.grpc_url) as client:
        yield client


@contextlib.contextmanager
def undisturbed(client, name):
    """A sequence that is under way meanwhile, and must come out right."""
    assert step(client, name, "bystander", 1, "s") == 1
    yield
    assert step(client, name, "bystander", 1) == 2
    assert step(client, name, "bystander", 1, "e") == 3


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
    warned = [line for line in running.log.read_text().splitlines() if "swaps such states" in line]
    assert any(name in line for line in warned) == (name == "crossing")


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
    answers = [step(client, "echo", 1, w, "" if n else "s", object) for n, w in enumerate(words)]
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


def test_a_graph_alone_is_completed_without_its_states(client, repository):
    only = f"max_batch_size: 4 sequence_batching {{ {oldest()} {state()} }}"
    load(client, repository, "completed", accumulator(), only)
    completed = client.get_model_config("completed").config
    assert [tensor.name for tensor in completed.input] == ["x"]
    assert [step(client, "completed", 1, 2, flags) for flags in ("s", "", "e")] == [2, 4, 6]


@pytest.mark.parametrize("more", ["use_same_buffer_for_input_output: true", ""])
def test_buffer_settings_are_accepted(client, repository, more):
    load(client, repository, "buffers", accumulator(), config(state(more=more)))
    assert [step(client, "buffers", 1, 2, flags) for flags in ("s", "", "e")] == [2, 4, 6]


# What goes wrong, and what it must leave alone.


def test_a_missing_start_is_refused(client, repository):
    load(client, repository, "no_start", accumulator(), config())
    with undisturbed(client, "no_start"):
        with pytest.raises(InferenceServerException, match=r"sequence 9 .* must specify the START flag"):
            step(client, "no_start", 9, 1)
        with pytest.raises(InferenceServerException, match="non-zero or non-empty correlation ID"):
            step(client, "no_start", 0, 1)
        step(client, "no_start", 9, 1, "s")
        step(client, "no_start", 9, 1, "e")
        with pytest.raises(InferenceServerException, match=r"sequence 9 .* must specify the START flag"):
            step(client, "no_start", 9, 1)  # after its end


def test_a_reused_correlation_id_is_refused_where_the_model_says_so(client, repository):
    load(client, repository, "refusing", accumulator(), config(idle_s=2, more=REFUSING))
    with undisturbed(client, "refusing"):
        assert step(client, "refusing", 3, 1, "s") == 1
        with pytest.raises(InferenceServerException, match=r"model 'refusing': sequence 3 is live already"):
            step(client, "refusing", 3, 1, "s")
        assert step(client, "refusing", 3, 1) == 2  # its first owner goes on
        assert step(client, "refusing", 3, 1, "e") == 3
        assert step(client, "refusing", 3, 1, "s") == 1  # free again
    wait_until(lambda: not refused(client, "refusing", 3, 1, "s"))  # and so it is when it was given up


def refused(*request):
    try:
        step(*request)
    except InferenceServerException:
        return True
    return False


def test_an_expired_sequence_is_refused(client, repository):
    load(client, repository, "expiring", accumulator(), config(idle_s=2))
    step(client, "expiring", 4, 1, "s")
    step(client, "expiring", "bystander", 0, "s")
    silent_until, total = time.monotonic() + 4, 0
    while time.monotonic() < silent_until:  # one is silent for longer than the time-out, the other is not
        total += 1
        assert step(client, "expiring", "bystander", 1) == total
    with pytest.raises(InferenceServerException, match=r"sequence 4 .* must specify the START flag"):
        step(client, "expiring", 4, 1)
    assert step(client, "expiring", "bystander", 1) == total + 1
    assert step(client, "expiring", 4, 1, "se") == 1


def test_too_many_sequences_wait_or_time_out(client, running, repository):
    load(client, repository, "full", accumulator(), config(strategy=oldest(candidates=2)))
    with undisturbed(client, "full"):
        step(client, "full", 1, 1, "s")
        with pytest.raises(InferenceServerException, match="timeout of the corresponding sequence"):
            step(client, "full", 2, 5, "s", timeout=100_000)
        with pytest.raises(InferenceServerException, match=r"sequence 2 .* must specify the START flag"):
            step(client, "full", 2, 5)  # it never began
        answers = together(
            running.grpc_url, [lambda c: step(c, "full", 3, 7, "s"), lambda c: step(c, "full", 1, 1, "e")]
        )
        assert answers == [7, 2]  # the first had to wait for the end of the second, then took its place
        assert step(client, "full", 3, 7, "e") == 14


def test_a_failing_request_changes_no_state(client, running, repository):
    model = graph(
        [
            helper.make_node("Gather", ["table", "x"], ["value"]),
            helper.make_node("Add", ["total", "value"], ["total_next"]),
            helper.make_node("Identity", ["total_next"], ["y"]),
        ],
        [("x", INT64, ["n", 1]), ("total", FLOAT, ["n", 1])],
        [("y", FLOAT, ["n", 1]), ("total_next", FLOAT, ["n", 1])],
        [("table", np.arange(10, dtype=np.float32))],
    )
    load(client, repository, "look_up", model, config(x="INT64", strategy=COMPANY))

    def at_once(*requests):
        calls = [lambda c, r=r: step(c, "look_up", *r, dtype=np.int64) for r in requests]
        answers = together(running.grpc_url, calls)
        return ["failed" if isinstance(answer, Exception) else answer for answer in answers]

    assert at_once((1, 1, "s"), (2, 2, "s"), (3, 99, "s"), (4, 4, "s")) == [1, 2, "failed", 4]
    assert at_once((1, 1, ""), (2, 99, ""), (3, 3, ""), (4, 4, "")) == [2, "failed", 3, 8]
    assert at_once((1, 99, "e"), (2, 2, ""), (3, 3, ""), (4, 4, "e")) == ["failed", 4, 6, 12]
    assert at_once((1, 1, ""), (2, 2, "e"), (3, 3, "e"), (4, 4, "")) == ["failed", 6, 9, "failed"]


def test_sequences_of_one_request_may_share_an_id(client, running, repository):
    """They need nothing of each other, so their lives may overlap."""
    load(client, repository, "single", accumulator(), config())
    values = list(range(50))
    assert stream(running.grpc_url, "single", [(6, x, "se") for x in values]) == values


def stream(url, name, requests):
    """(sequence, x, flags) sent without waiting for answers; the values of y in order."""
    results = sequences(
        url, name, [(i, {"x": np.array([[x]], np.float32)}, flags) for i, x, flags in requests]
    )
    return [result.as_numpy("y").item() for result in results]


# Memory.


def private_memory(pids):
    """Bytes of memory of these processes that no other process shares."""
    status = "\n".join(Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def load_large(client, running, repository, name, **changed):
    before = set(descendants(running.pid))
    load(client, repository, name, LARGE, config(state(dims=str(STATE_BYTES // 4)), **changed))
    return set(descendants(running.pid)) - before  # the processes of its instance


def test_sequences_that_end_leave_nothing(client, running, repository):
    instance = load_large(client, running, repository, "ending")
    lives = [(s, x, flags) for s in range(1, 2001) for x, flags in ((1, "s"), (2, ""), (3, "e"))]
    assert stream(running.grpc_url, "ending", lives[:600])[-3:] == [1, 3, 6]
    warm = private_memory(instance)
    assert stream(running.grpc_url, "ending", lives)[-3:] == [1, 3, 6]
    kept = private_memory(instance) - warm
    assert kept < 100 * STATE_BYTES, f"{kept / 2**20:.1f} MiB after 2,000 sequences of {STATE_BYTES} bytes"


def test_sequences_that_are_given_up_return_their_memory(client, running, repository):
    instance = load_large(client, running, repository, "given_up", idle_s=2, strategy=oldest(600))
    stream(running.grpc_url, "given_up", [(s, 1, flags) for s in range(1, 101) for flags in ("s", "e")])
    before = private_memory(instance)
    stream(running.grpc_url, "given_up", [(s, 1, "s") for s in range(1, 513)])
    assert private_memory(instance) - before > 400 * STATE_BYTES  # they are there
    total = step(client, "given_up", "goes on", 1, "s")

    def returned():  # none of them is asked for again
        nonlocal total
        total += 1
        assert step(client, "given_up", "goes on", 1) == total
        return private_memory(instance) - before < 100 * STATE_BYTES

    wait_until(returned)


def test_unloading_forgets_all_sequences(client, repository):
    load(client, repository, "reloaded", accumulator(), config())
    step(client, "reloaded", 1, 1, "s")
    client.unload_model("reloaded")
    wait_until(lambda: not client.is_model_ready("reloaded"))
    client.load_model("reloaded")
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        step(client, "reloaded", 1, 1)
    assert step(client, "reloaded", 1, 1, "se") == 1


# What is refused at load.


@pytest.mark.parametrize(
    ("name", "states", "more", "message"),
    [
        ("input", state("sum"), "", "graph has no state input 'sum', it has 'x', 'total'"),
        ("output", state(output="sum_next"), "", "graph has no state output 'sum_next'"),
        ("type", state(kind="INT32"), "", "state input 'total' is TYPE_INT32, in the graph TYPE_FP32"),
        ("dims", state(dims="3"), "", r"state output 'total_next' has dims \[3\], in the graph \[1\]"),
        ("listed", state() + state("x", "y"), "", "state input 'x' is fed by Triton; remove it from input"),
        ("open", state(dims="-1").replace("dims: [ -1 ] zero", "dims: [ 7 ] zero"), "",
         r"initial_state of 'total' has dims \[7\], but Triton begins a sequence with \[1\]"),
        ("restart", state(), REFUSING.replace("refuse", "maybe"),
         "sequence_restart is 'maybe'; choose reset or refuse"),
    ],
)  # fmt: skip
def test_a_wrong_state_is_refused_at_load(client, repository, name, states, more, message):
    with pytest.raises(InferenceServerException, match=message):
        load(client, repository, f"wrong_{name}", accumulator(), config(states, more=more))


def test_a_state_without_initial_state_is_warned_about(client, running, repository):
    load(client, repository, "uninitialised", accumulator(), config(state(initial="")))
    assert [step(client, "uninitialised", 1, 2, flags) for flags in ("s", "", "e")] == [2, 4, 6]
    warnings = [line for line in running.log.read_text().splitlines() if line.startswith("W")]
    assert any("uninitialised" in w and "state 'total' has no initial_state" in w for w in warnings)
