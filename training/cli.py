"""The command line of `python -m training`."""

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from export.common.errors import ExportError
from export.common.exit_codes import exit_code, until_closed
from export.common.version import add_version
from training.curve import draw_curve, print_curve
from training.errors import PeerError, TrainingError

if TYPE_CHECKING:
    from training.evaluation.scoring import Score
    from training.loop import TrainingRun

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "export" / "checkpoints"
RUNS = ROOT / "training" / "runs"
MODELS = ("text_recognizer", "text_stream")
MINUTES = 60.0
LINES = 1000
SEED = 20  # of the test lines
VALIDATE_EVERY_S = 300.0
CURVE, PICTURE = "curve.json", "curve.png"  # in the folder of a run

DESCRIPTION = """\
Train the text networks on generated lines, and measure how well they and others read.

python -m training text_recognizer     fine-tune the pretrained recogniser
python -m training text_stream         train the strip reader
python -m training evaluate MODEL      character error rates on fonts and words that no training saw

Training runs on one core for --minutes. Stop it with Ctrl-C, or cut the power: the same command goes on.
"""
EXIT_CODES = """\
exit codes: 0 done; 1 failed, or the output was closed; 2 wrong usage;
130 interrupted, training goes on with the same command
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return until_closed(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    command = _evaluate if options.command == "evaluate" else _train
    return exit_code(lambda: command(options), (TrainingError, ExportError))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for model in MODELS:
        one = commands.add_parser(model, help=f"train {model}", epilog=EXIT_CODES)
        one.add_argument(
            "--minutes", type=_positive, default=MINUTES, help="of training (default: %(default)g)"
        )
        one.add_argument("--seed", type=int, default=1, help="of the lines and the weights (default: 1)")
        one.add_argument(
            "--folder", type=Path, metavar="FOLDER", help=f"of the run (default: {_shown(RUNS / model)})"
        )
        one.add_argument(
            "--start", type=Path, metavar="FILE", help="weights to begin with (default: legere's)"
        )
        one.add_argument(
            "--learning-rate", type=_positive, metavar="RATE", help="at its peak (default: the recipe's)"
        )
        one.add_argument("--restart", action="store_true", help="drop an unfinished run in the folder")
    one = commands.add_parser("evaluate", help="character error rates on the test lines", epilog=EXIT_CODES)
    one.add_argument("model", choices=MODELS, metavar="MODEL", help=" or ".join(MODELS))
    one.add_argument(
        "--weights", type=Path, metavar="FILE", help=f"(default: {_shown(CHECKPOINTS)}/MODEL.safetensors)"
    )
    one.add_argument("--url", metavar="HOST:PORT", help="evaluate what this server runs, too")
    one.add_argument("--lines", type=_count, default=LINES, help="of each set (default: %(default)s)")
    one.add_argument("--seed", type=int, default=SEED, help="of the test lines (default: %(default)s)")
    one.add_argument("--no-peers", action="store_true", help="leave out legere and tesseract")
    one.add_argument("--json", action="store_true", help="print all results as JSON")
    one.add_argument("--output", type=Path, metavar="FILE", help="write all results there as JSON")
    for one in commands.choices.values():
        one.add_argument("--threads", type=_count, default=1, help="of PyTorch (default: 1)")
    return parser


def _train(options: argparse.Namespace) -> int:
    folder = options.folder or RUNS / options.command
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(24),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(options.command, total=None, now="loading PyTorch")
        import torch  # and all that needs it: asking for help should not take seconds

        from training.loop import TrainingRun
        from training.recipes import RECIPES

        torch.set_num_threads(options.threads)
        recipe = RECIPES[options.command]
        if options.learning_rate:
            recipe = dataclasses.replace(recipe, learning_rate=options.learning_rate)
        bar.update(task, now="fetching fonts and words, if need be")
        run = TrainingRun(
            recipe, folder, options.seed, options.minutes, restart=options.restart, start=options.start
        )
        if run.fraction >= 1:
            raise TrainingError(
                f"the run in {_shown(folder)} is done: {run.progress.seconds / 60:.3g} minutes of "
                f"{options.minutes:g}; give more --minutes, or --restart to begin anew"
            )
        if run.resumed:
            bar.console.print(
                f"going on at step {run.progress.step}, {run.progress.seconds / 60:.1f} minutes"
            )
        _write_curve(run)
        bar.update(task, now="drawing the first lines")
        shown = len(run.progress.curve)

        def report(run: "TrainingRun") -> None:
            nonlocal shown
            progress = run.progress
            doing = "validating" if run.validating else f"loss {progress.loss:.2f}"
            now = f"step {progress.step}, {progress.next_line:,} lines, {doing}"
            bar.update(task, total=60 * options.minutes, completed=progress.seconds, now=now)
            for row in progress.curve[shown:]:
                bar.console.print(
                    f"{row['minutes']:6.1f} min  CER {row['cer_clean_percent']:.2f} % clean, "
                    f"{row['cer_degraded_percent']:.2f} % degraded  (validation)"
                )
            if len(progress.curve) > shown:
                _write_curve(run)
            shown = len(progress.curve)

        try:
            run.train(VALIDATE_EVERY_S, report)
        except KeyboardInterrupt:
            _write_curve(run)
            bar.console.print(f"saved at step {run.progress.step}; the same command goes on from there")
            return 130
    _write_curve(run)
    print_curve(console, run.progress.curve)
    weights, picture = f"{_shown(folder / options.command)}.safetensors", _shown(folder / PICTURE)
    print(f"weights: {weights}   curve: {picture}, {_shown(folder / CURVE)}")
    return 0


def _write_curve(run: "TrainingRun") -> None:
    """The numbers, and the picture of them once there are some."""
    progress = run.progress
    data = {**run.metadata(), "curve": progress.curve, "losses": progress.losses}
    (run.folder / CURVE).write_text(json.dumps(data, indent=1) + "\n")
    if progress.losses:
        draw_curve(run.recipe.name, progress.losses, progress.curve, run.folder / PICTURE)


def _evaluate(options: argparse.Namespace) -> int:
    import torch

    from training.evaluation import scoring
    from training.evaluation.readers import (
        Reader,
        ServedReader,
        TesseractReader,
        legere_reader,
        weights_reader,
    )

    torch.set_num_threads(options.threads)
    path = options.weights or CHECKPOINTS / f"{options.model}.safetensors"
    readers: list[Reader] = [weights_reader(options.model, path)]
    if options.url:
        readers.append(ServedReader(options.model, options.url))
    if not options.no_peers:
        readers.append(legere_reader())
        try:
            readers.append(TesseractReader())
        except PeerError as error:
            print(f"left out: {error}", file=sys.stderr)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        total = options.lines * len(scoring.SETS)
        tasks = {reader.name: bar.add_task(reader.name, total=total) for reader in readers}
        scores = scoring.evaluate(
            readers, options.lines, options.seed, lambda name, done: bar.advance(tasks[name], done)
        )
    result = scoring.report(options.model, readers, scores, options.lines, options.seed)
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)
    if options.json:
        print(text, end="")
    else:
        _print_scores(scoring.TARGETS[options.model], scores)
    return 0


def _print_scores(targets: dict[str, float], scores: "dict[str, list[Score]]") -> None:
    table = Table("set", "target", *scores, title="character error rate, percent")
    for rows in zip(*scores.values(), strict=True):
        target = targets.get(rows[0].set)
        table.add_row(
            rows[0].set, f"{target:g}" if target else "", *(f"{score.cer_percent:.2f}" for score in rows)
        )
    Console().print(table)
    ours = next(iter(scores.values()))
    worst = sorted(ours, key=lambda score: -score.cer_percent)[0]
    console = Console()
    console.print(f"{next(iter(scores))}, {worst.set}, per family:", markup=False)
    console.print("  " + ", ".join(f"{name} {cer:.2f}" for name, cer in worst.families.items()), markup=False)
    console.print("most frequent confusions, true>read:", markup=False)
    shown = list(worst.confusions.items())[:12]
    console.print("  " + ", ".join(f"{pair!r} {count}" for pair, count in shown), markup=False)


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)
