"""Training: its lines, the splits, runs that stop and go on, and the weights that came of it."""

import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.networks.charset import CHARSET
from export.packages import file_sha256
from training import batches, cli, loop
from training.batches import training_batches
from training.cli import MODELS
from training.errors import StateError
from training.evaluation.readers import weights_reader
from training.evaluation.scoring import confusions, score
from training.lines import generator
from training.lines.degrade import LEVELS, thinned
from training.lines.fonts import TABLE, faces, families, missing_characters
from training.lines.generator import LineSource
from training.lines.text import KINDS, TextSource
from training.lines.words import LANGUAGES, SPLITS, split_of_word, words
from training.loop import TrainingRun
from training.metrics import character_error_rate, edit_distance, greedy_text, indices
from training.recipes import RECIPES
from training.state import load_weights, save_weights, weights_metadata

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "export" / "checkpoints"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def source() -> LineSource:
    """The smallest split, so that few wheels are fetched."""
    return LineSource("validation", seed=3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few lines in a buffer, in a batch and in a validation."""
    monkeypatch.setattr(batches, "BUFFER", 24)
    monkeypatch.setattr(batches, "COLUMNS", 3000)
    monkeypatch.setattr(loop, "VALIDATION_LINES", 6)


def run_of(model: str, folder: Path, **more) -> TrainingRun:
    return TrainingRun(RECIPES[model], folder, seed=4, minutes=1.0, split="validation", **more)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


# Splits


def test_a_family_is_in_one_split_and_every_wheel_is_pinned():
    rows = families()
    assert len({row.name for row in rows}) == len(rows)
    assert len(rows) == sum(not line.startswith("#") for line in TABLE.read_text().splitlines())
    counts = {split: len(families(split)) for split in SPLITS}
    assert counts["training"] >= 60
    assert counts["validation"] >= 5
    assert counts["test"] >= 10
    assert all(re.fullmatch("[0-9a-f]{64}", row.package.sha256) for row in rows)
    relatives = {row.split for row in rows if row.name.startswith("PT ")}
    assert relatives == {"test"}, "a superfamily stays together"


def test_no_word_is_in_two_splits():
    for language in LANGUAGES:
        parts = {split: set(words(language, split)) for split in SPLITS}
        everything = sum(len(part) for part in parts.values())
        assert everything == len(set.union(*parts.values()))
        assert 0.03 < len(parts["test"]) / everything < 0.07
        assert set("".join(parts["test"])) <= set(CHARSET)
    assert split_of_word("Key") == split_of_word("kEY")


def test_test_lines_say_test_words_only(source):
    texts = TextSource("test")
    for number in range(300):
        text = texts.draw("english", np.random.default_rng(number))
        for word in re.findall("[a-z]+", re.sub("'s( |$|[^a-z])", " ", text.lower())):
            assert split_of_word(word) == "test" or len(text) == 60, text


# Lines


@pytest.mark.parametrize("kind", KINDS)
def test_texts_keep_to_the_charset_and_the_length(kind):
    texts = TextSource("validation")
    drawn = [texts.draw(kind, np.random.default_rng(number), 40) for number in range(400)]
    assert set("".join(drawn)) <= set(CHARSET)
    assert all(0 < len(text) <= 40 and text == text.strip() for text in drawn)
    assert len(set(drawn)) > 250


def test_every_face_draws_every_character():
    for family, faces_of in zip(families("validation"), faces("validation"), strict=True):
        assert faces_of, family.name
        assert not missing_characters(faces_of[0])


@pytest.mark.parametrize("level", LEVELS)
def test_a_line_depends_on_its_seed_and_number_alone(source, level):
    lines = [source.line(number, level) for number in range(12)]
    again = [LineSource("validation", seed=3).line(number, level) for number in reversed(range(12))][::-1]
    other = [LineSource("validation", seed=5).line(number, level) for number in range(12)]
    for line, same in zip(lines, again, strict=True):
        assert line.text == same.text
        assert np.array_equal(line.pixels, same.pixels)
        assert line.pixels.dtype == np.uint8
        assert line.pixels.shape[0] == 32
        assert np.median(line.pixels) > line.pixels.min() + 40, "dark on light"
    assert [line.text for line in other] != [line.text for line in lines]


def test_degraded_lines_are_harder_to_see(source):
    def roughness(level: str) -> float:
        lines = [source.line(number, level, "english").pixels.astype(float) for number in range(40)]
        return float(np.mean([np.abs(np.diff(pixels[:2])).mean() for pixels in lines]))  # the upper margin

    assert roughness("degraded") > 2 * roughness("clean")


def test_what_training_adds_leaves_the_other_splits_alone(source, monkeypatch):
    before = [source.line(number, "degraded") for number in range(12)]
    monkeypatch.setattr(generator, "THINNED_SHARE", 1.0)
    monkeypatch.setattr(generator, "SERIF_WEIGHT", 100.0)
    after = [LineSource("validation", seed=3).line(number, "degraded") for number in range(12)]
    for line, same in zip(before, after, strict=True):
        assert line.face == same.face
        assert np.array_equal(line.pixels, same.pixels)


def test_thinned_ink_is_less_and_nowhere_more(source):
    random = np.random.default_rng(0)
    for face in (family[0] for family in faces("validation")):
        ink = generator.render("Thin strokes", face, "degraded", random)
        before, after = np.asarray(ink, int), np.asarray(thinned(ink, random), int)
        assert (after <= before + 1).all()
        assert 0.05 * before.sum() < after.sum() < before.sum()


def test_batches_hold_whole_lines_and_trailing_white(source, small):
    stream = training_batches(source, first=0, least_padding=32)
    for _ in range(6):
        batch, following = next(stream)
        assert following % batches.BUFFER == 0
        assert batch.lines.dtype == torch.uint8
        assert batch.lines.shape[2] % 4 == 0
        assert (batch.lines[:, :, -32:] == 255).all()
        assert int(batch.target_lengths.sum()) == len(batch.targets)
        assert batch.targets.min() >= 1


# Error rates


def test_edit_distance_and_character_error_rate():
    assert edit_distance("", "") == 0
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("Wy", "wv") == 2
    assert character_error_rate([("abcd", "abcd"), ("xb", "ab")]) == pytest.approx(100 / 6)
    assert character_error_rate([("aaaa", "a")]) == pytest.approx(300)


def test_greedy_text_merges_repeats_and_drops_blanks():
    def log_probs(classes: list[int]) -> np.ndarray:
        table = np.full((len(classes), 122), -9.0)
        table[np.arange(len(classes)), classes] = -0.1
        return table

    k, e = indices("ke")
    assert greedy_text(log_probs([0, k, k, 0, e, 0, e, e, 0])) == "kee"
    assert greedy_text(log_probs([0, 0])) == ""
    assert indices(CHARSET) == list(range(1, 122))


def test_scores_say_where_the_errors_are(source):
    lines = [source.line(number, "clean", "english") for number in range(4)]
    read = [line.text for line in lines]
    read[1] = read[1][:-1]
    result = score("english clean", lines, read)
    assert result.wrong_lines_percent == 25
    assert result.cer_percent == pytest.approx(100 / result.characters, abs=1e-3)
    assert result.families[lines[1].face.family] > 0
    assert confusions([("vvord", "word"), ("ok", "ok")]) == {"w>vv": 1}


# Runs


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


def test_the_command_shows_itself_from_the_start_and_leaves_a_curve(tmp_path, small, monkeypatch, capsys):
    """On a terminal the bar is there before PyTorch is."""
    shown, folder = [], tmp_path / "deep" / "run"

    class Shown(cli.Progress):
        def update(self, task_id, **fields):
            shown.append((fields["now"].split()[0], (folder / "curve.json").exists()))
            super().update(task_id, **fields)

        def add_task(self, description, **fields):
            shown.append((fields["now"], folder.is_dir()))
            return super().add_task(description, **fields)

    monkeypatch.setattr(cli, "Progress", Shown)
    monkeypatch.setattr(cli, "_shown", str)
    arguments = ["text_recognizer", "--minutes", "0.001", "--folder", str(folder)]
    assert cli.main(arguments) == 0
    assert shown[:3] == [("loading PyTorch", True), ("fetching", False), ("drawing", True)]
    data = json.loads((folder / "curve.json").read_text())
    assert data["losses"][0][1] > 0
    assert len(data["curve"]) == 1
    with Image.open(folder / "curve.png") as picture:
        assert picture.width > 600
    assert f"curve: {folder / 'curve.png'}" in capsys.readouterr().out
    assert cli.main(arguments) == 1
    assert "is done: " in capsys.readouterr().err


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


# Weights


def test_weights_are_refused_if_damaged_or_of_another_network(tmp_path):
    path = tmp_path / "stream.safetensors"
    network = RECIPES["text_stream"].network()
    save_weights(network.state_dict(), path, {"seed": "1"})
    other = RECIPES["text_stream"].network()
    load_weights(other, path)
    assert torch.equal(network.head.weight, other.head.weight)
    with pytest.raises(StateError, match=r"does not fit TextRecognizer: .*rnn\.weight_ih_l0 is \(768, 192\)"):
        load_weights(RECIPES["text_recognizer"].network(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StateError, match="cannot be read"):
        load_weights(other, path)
    with pytest.raises(StateError, match="cannot be read"):
        load_weights(other, tmp_path / "none.safetensors")


@pytest.mark.parametrize("model", RECIPES)
def test_the_committed_weights_read_unseen_fonts_and_words(model, source):
    path = CHECKPOINTS / f"{model}.safetensors"
    assert path.stat().st_size <= 4 << 20
    assert path.with_suffix(".md").is_file()
    metadata = weights_metadata(path)
    assert metadata["charset"] == CHARSET
    assert metadata["model"] == model
    assert {"seed", "command", "start"} <= metadata.keys()
    reader = weights_reader(model, path)
    lines = [source.line(500 + number, "clean", "english") for number in range(60)]
    pairs = list(zip(reader.read(lines), (line.text for line in lines), strict=True))
    assert character_error_rate(pairs) < 2.5, [pair for pair in pairs if pair[0] != pair[1]]


# The command line


def test_help_names_the_commands():
    done = command("--help")
    assert done.returncode == 0
    for word in (*RECIPES, "evaluate", "exit codes", "Ctrl-C"):
        assert word in done.stdout


def test_wrong_usage_and_missing_files_are_told(tmp_path):
    done = command("text_stream", "--minutes", "0")
    assert (done.returncode, "0 is not more than 0" in done.stderr) == (2, True)
    missing = tmp_path / "none.safetensors"
    done = command("evaluate", "text_recognizer", "--weights", str(missing), "--no-peers")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {missing} cannot be read")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("model", RECIPES)
def test_the_results_are_those_of_the_committed_weights_and_the_card_tells_them(model):
    result = json.loads((ROOT / "training" / "results" / f"{model}.json").read_text())
    path = CHECKPOINTS / f"{model}.safetensors"
    assert {"machine", "versions", "seed", "lines_of_each_set", "taken"} <= result.keys()
    assert result["readers"][model] == f"{path.name} {file_sha256(path)[:12]}"
    assert {"legere", "tesseract"} <= result["scores"].keys()
    card = path.with_suffix(".md").read_text()
    page = (ROOT / "docs" / "training.md").read_text()
    for ours in result["scores"][model]:
        row = re.compile(rf"\| {ours['set']} \| [\d.]* \| {ours['cer_percent']:.2f} \|")
        assert row.search(card), ours["set"]
        assert row.search(page), ours["set"]


def test_the_command_line_knows_the_recipes():
    assert tuple(RECIPES) == MODELS
