"""Runs that stop, go on, and begin with given weights."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from training import loop
from training.batches import training_batches
from training.errors import StateError
from training.evaluation.readers import weights_reader
from training.loop import TrainingRun
from training.recipes import RECIPES
from training.state import weights_metadata

CHECKPOINTS = ROOT / "export" / "checkpoints"


def run_of(model: str, folder: Path, **more) -> TrainingRun:
    return TrainingRun(RECIPES[model], folder, seed=4, minutes=1.0, split="validation", **more)


@pytest.mark.slow
@pytest.mark.parametrize("model", RECIPES)
def test_a_few_steps_lower_the_loss(model, tmp_path, small):
    run = run_of(model, tmp_path)
    batch, _ = next(training_batches(run.source, 0, run.recipe.least_padding, 100))
    run.progress.seconds = 1.2  # the end of the warm-up
    losses = [run.step(batch) for _ in range(8)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_run_that_was_interrupted_goes_on(tmp_path, small):
    first = run_of("text_recognizer", tmp_path)

    def interrupt(run: TrainingRun) -> None:
        if run.progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.train(1e9, interrupt)
    second = run_of("text_recognizer", tmp_path)
    assert second.resumed
    assert vars(second.progress) == vars(first.progress)
    assert second.progress.next_line > 0
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
        assert torch.equal(first.average[name], second.average[name]), name
    moments = [run.optimizer.state_dict()["state"][0]["exp_avg"] for run in (first, second)]
    assert torch.equal(*moments)
    second.minutes = (second.progress.seconds + 0.01) / 60
    second.train(1e9, lambda run: None)
    assert second.progress.step == 4
    assert second.fraction == 1
    row = second.progress.curve[-1]
    assert row["step"] == 4
    assert 0 <= row["cer_clean_percent"] < 30
    assert math.isfinite(row["loss"])
    assert not run_of("text_recognizer", tmp_path, restart=True).resumed


def test_time_that_a_run_does_not_compute_is_not_of_its_budget(tmp_path, small, monkeypatch):
    def stop(run: TrainingRun) -> None:
        if run.progress.step == 3:
            raise KeyboardInterrupt

    computed_s = itertools.count(step=7)  # what the thread has computed, whatever the clock on the wall says
    monkeypatch.setattr(loop.time, "thread_time", lambda: next(computed_s))
    run = run_of("text_recognizer", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.train(1e9, stop)
    assert run.progress.seconds == 3 * 7


def test_a_run_begins_with_given_weights(tmp_path, small):
    start = CHECKPOINTS / "text_recognizer.safetensors"
    run = run_of("text_recognizer", tmp_path, start=start)
    given = weights_reader("text_recognizer", start)
    lines = [run.source.line(number, "degraded") for number in range(20)]
    run.save()
    saved = tmp_path / "text_recognizer.safetensors"
    assert weights_reader("text_recognizer", saved).read(lines) == given.read(lines)
    assert "--start text_recognizer.safetensors" in weights_metadata(saved)["command"]
    assert weights_metadata(saved)["start"] == start.name


def test_a_damaged_run_is_refused(tmp_path, small):
    run_of("text_stream", tmp_path).save()
    state = tmp_path / "state.pt"
    whole = state.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a run at all"):
        state.write_bytes(damaged)
        with pytest.raises(StateError, match=r"state\.pt .*--restart"):
            run_of("text_stream", tmp_path)
    state.write_bytes(whole)
    with pytest.raises(StateError, match=r"has model text_stream, not text_recognizer: .*--folder"):
        run_of("text_recognizer", tmp_path)
    torch.save({"weights": 1}, state)
    with pytest.raises(StateError, match="no unfinished run"):
        run_of("text_stream", tmp_path)
