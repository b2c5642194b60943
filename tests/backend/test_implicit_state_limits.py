"""Implicit state: what goes wrong disturbs nobody, memory comes back, and what is refused at load."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
from onnx import helper
from tritonclient.utils import InferenceServerException

from tests import sanitized
from tests.graphs import (
    FLOAT,
    INT64,
    graph,
    load,
    sequences,
    together,
)
from tests.processes import descendants, told_of, wait_for_line, wait_until, without_planner
from tests.stateful import COMPANY, LARGE, REFUSING, STATE_BYTES, accumulator, config, oldest, state, step


@contextlib.contextmanager
def undisturbed(client, name):
    """A sequence that is under way meanwhile, and must come out right."""
    assert step(client, name, "bystander", 1, "s") == 1
    yield
    assert step(client, name, "bystander", 1) == 2
    assert step(client, name, "bystander", 1, "e") == 3


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


@pytest.mark.slow
def test_a_reused_correlation_id_is_refused_where_the_model_says_so(client, repository):
    load(client, repository, "refusing", accumulator(), config(more=REFUSING))
    with undisturbed(client, "refusing"):
        assert step(client, "refusing", 3, 1, "s") == 1
        with pytest.raises(InferenceServerException, match=r"model 'refusing': sequence 3 is live already"):
            step(client, "refusing", 3, 1, "s")
        assert step(client, "refusing", 3, 1) == 2  # its first owner goes on
        assert step(client, "refusing", 3, 1, "e") == 3
        assert step(client, "refusing", 3, 1, "s") == 1  # free again
    load(client, repository, "refusing_briefly", accumulator(), config(idle_s=2, more=REFUSING))
    step(client, "refusing_briefly", 3, 1, "s")
    wait_until(lambda: not refused(client, "refusing_briefly", 3, 1, "s"))  # free when it was given up, too


def refused(*request):
    try:
        step(*request)
    except InferenceServerException:
        return True
    return False


@pytest.mark.slow
def test_an_expired_sequence_is_refused(client, running, repository):
    load(client, repository, "expiring", accumulator(), config(idle_s=5, strategy=oldest(candidates=2)))
    step(client, "expiring", 4, 1, "s")
    step(client, "expiring", "bystander", 0, "s")
    total = 0
    with grpc.InferenceServerClient(running.grpc_url) as other, ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(step, other, "expiring", 5, 5, "se")  # there is no room for it
        while not waiting.done():  # until one that is silent has expired; another is not silent
            total += 1
            assert step(client, "expiring", "bystander", 1) == total
        assert waiting.result() == 5
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


def private_memory(pids):
    """Bytes of memory of these processes that no other process shares."""
    status = "\n".join(told_of(pid, "status").decode() for pid in pids)
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def load_large(client, running, repository, name, **changed):
    before = set(descendants(running.pid))
    load(client, repository, name, LARGE, config(state(dims=str(STATE_BYTES // 4)), **changed))
    return set(without_planner(descendants(running.pid))) - before  # the processes of its instance


@pytest.mark.slow
@pytest.mark.skipif(sanitized.wanted(), reason="a sanitizer keeps what is freed")
def test_sequences_that_end_leave_nothing(client, running, repository):
    instance = load_large(client, running, repository, "ending")
    lives = [(s, x, flags) for s in range(1, 2001) for x, flags in ((1, "s"), (2, ""), (3, "e"))]
    assert stream(running.grpc_url, "ending", lives[:600])[-3:] == [1, 3, 6]
    warm = private_memory(instance)
    assert stream(running.grpc_url, "ending", lives)[-3:] == [1, 3, 6]
    kept = private_memory(instance) - warm
    assert kept < 100 * STATE_BYTES, f"{kept / 2**20:.1f} MiB after 2,000 sequences of {STATE_BYTES} bytes"


@pytest.mark.slow
@pytest.mark.skipif(sanitized.wanted(), reason="a sanitizer keeps what is freed")
def test_sequences_that_are_given_up_return_their_memory(client, running, repository):
    def begin_512(name, idle_s):
        instance = load_large(client, running, repository, name, idle_s=idle_s, strategy=oldest(600))
        stream(running.grpc_url, name, [(s, 1, flags) for s in range(1, 101) for flags in ("s", "e")])
        before = private_memory(instance)
        stream(running.grpc_url, name, [(s, 1, "s") for s in range(1, 513)])
        return lambda: private_memory(instance) - before

    assert begin_512("kept", idle_s=600)() > 400 * STATE_BYTES  # they are there
    stream(running.grpc_url, "kept", [(s, 1, "e") for s in range(1, 513)])  # else a stop waits for them
    held = begin_512("given_up", idle_s=2)

    def returned():  # none of them is asked for again
        assert step(client, "given_up", "another", 1, "se") == 1
        return held() < 100 * STATE_BYTES

    wait_until(returned)


def state_of(client, name):
    """As the repository index has it: UNLOADING comes first."""
    (found,) = (one for one in client.get_model_repository_index().models if one.name == name)
    return found.state


def test_unloading_forgets_all_sequences(client, repository):
    load(client, repository, "reloaded", accumulator(), config(idle_s=2))  # unloading waits so long for it
    step(client, "reloaded", 1, 1, "s")
    client.unload_model("reloaded")
    wait_until(lambda: state_of(client, "reloaded") == "UNAVAILABLE")  # a load before ended Triton 2.51 once
    client.load_model("reloaded")
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        step(client, "reloaded", 1, 1)
    assert step(client, "reloaded", 1, 1, "se") == 1


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
    wait_for_line(running.log, "W", "uninitialised", "state 'total' has no initial_state")
