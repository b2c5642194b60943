"""text_stream served: strip by strip, with states kept by the server, equals PyTorch's unbroken run."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from export.catalogue import CATALOGUE
from export.sources.samples import line_strips
from export.sources.weights import choose_weights, filled_network
from tests.conftest import ROOT
from tests.graphs import executions, inputs_of, sequences

MODEL = "text_stream"
SEQUENCES = 200
LONGEST = 24  # strips
TOLERANCE = CATALOGUE[MODEL].tolerance


@pytest.fixture(scope="module")
def lines():
    """200 lines of 1 to 24 strips, cut at random out of real ones: UINT8 [strips, 32, 32] each."""
    random, strips = np.random.default_rng(0), np.stack([strip for (strip,) in line_strips()])
    starts = random.integers(0, len(strips), SEQUENCES)
    lengths = random.integers(1, LONGEST, SEQUENCES, endpoint=True)
    return [strips.take(range(s, s + n), 0, mode="wrap") for s, n in zip(starts, lengths, strict=True)]


@pytest.fixture(scope="module")
def unbroken(server):
    """PyTorch, without states: UINT8 [strips, 32, 32] -> FP32 [8 strips, classes] in one run."""
    with grpc.InferenceServerClient(server.grpc_url) as client:
        weights = client.get_model_config(MODEL).config.parameters["weights"].string_value
    spec = CATALOGUE[MODEL]
    network = filled_network(spec, choose_weights(spec, random=weights == "random")).eval()

    def run(strips):
        with torch.inference_mode():
            return network.forward_line(torch.from_numpy(np.hstack(strips)[None]))[0].numpy()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small runs: threads would only wait for each other
    yield run
    torch.set_num_threads(threads)


def in_random_order(lines):
    """Each strip once: (line, its number in the line, arrays, flags); the lines interleaved."""
    turns = np.repeat(np.arange(len(lines)), [len(strips) for strips in lines])
    np.random.default_rng(1).shuffle(turns)
    sent = [0] * len(lines)
    for line in turns:
        number = sent[line]
        sent[line] += 1
        flags = "s" * (number == 0) + "e" * (number == len(lines[line]) - 1)
        yield int(line), number, {"strip": lines[line][number][None]}, flags


@pytest.mark.slow
def test_interleaved_sequences_equal_unbroken_runs(server, lines, unbroken):
    requests = list(in_random_order(lines))
    with grpc.InferenceServerClient(server.grpc_url) as client:
        before = client.get_inference_statistics(MODEL).model_stats[0]
        named = [(f"line {line}", arrays, flags) for line, _, arrays, flags in requests]
        results = sequences(server.grpc_url, MODEL, named, in_flight=len(named))
        needed = executions(client, MODEL, before.inference_count + len(named)) - before.execution_count
    served = {(line, number): r for (line, number, *_), r in zip(requests, results, strict=True)}
    for line, strips in enumerate(lines):
        answers = np.concatenate([served[line, n].as_numpy("log_probs")[0] for n in range(len(strips))])
        np.testing.assert_allclose(answers, unbroken(strips), rtol=0, atol=TOLERANCE, err_msg=f"line {line}")
    assert needed < len(named), f"{len(named)} strips took {needed} executions: none shared a batch"


def test_a_forgotten_state_would_be_seen(lines, unbroken):
    """The comparison above can fail: each strip for itself is far from the unbroken run."""
    strips = max(lines, key=len)
    alone = np.concatenate([unbroken(strip[None]) for strip in strips])
    assert np.abs(alone - unbroken(strips)).max() > 100 * TOLERANCE


def ask(client, sequence, strip, **flags):
    result = client.infer(MODEL, inputs_of({"strip": strip[None]}), sequence_id=sequence, **flags)
    return result.as_numpy("log_probs")


def test_misused_correlation_ids_are_refused_and_disturb_nobody(server, lines):
    strips = max(lines, key=len)[:3]
    with grpc.InferenceServerClient(server.grpc_url) as client:
        undisturbed = [
            ask(client, "alone", strip, sequence_start=n == 0, sequence_end=n == 2)
            for n, strip in enumerate(strips)
        ]
        answers = [ask(client, "first", strips[0], sequence_start=True)]
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            ask(client, "never started", strips[0])
        answers.append(ask(client, "first", strips[1]))
        with pytest.raises(InferenceServerException, match="'first' is live already"):
            ask(client, "first", strips[0], sequence_start=True)
        answers.append(ask(client, "first", strips[2], sequence_end=True))
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            ask(client, "first", strips[0])
    np.testing.assert_allclose(answers, undisturbed, rtol=0, atol=TOLERANCE)


def test_the_policy_bounds_the_live_sequences():
    text = (ROOT / "model_repository" / MODEL / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    batching = config.sequence_batching
    places = batching.oldest.max_candidate_sequences * sum(group.count for group in config.instance_group)
    assert SEQUENCES <= places <= 10_000
    assert 1 <= batching.max_sequence_idle_microseconds / 1e6 <= 120
    assert all(state.initial_state[0].zero_data for state in batching.state)
    assert config.parameters["sequence_restart"].string_value == "refuse"


@pytest.mark.slow
def test_the_cost_of_strips_and_the_memory_of_sequences_are_reported(tmp_path):
    output = tmp_path / "raw.json"
    command = [sys.executable, "-m", "perf", "streaming", "--lines=2", "--strips=6", "--sequences=20"]
    done = subprocess.run(
        [*command, f"--output={output}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    assert len(report["latency_us_by_position"]) == 6
    assert min(report["latency_us_by_position"]) > 0
    assert report["memory"][-1]["sequences"] == 20
    assert report["memory"][-1]["private_bytes"]["triton_python_backend_stub"] > 0
