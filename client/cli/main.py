"""The command line of the client; `RUNS` are its commands."""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from PIL import Image

from ..clients.blocking import VisionClient
from ..common import defaults
from ..common.identity import SERVER_COMMAND, log
from ..conversation.flows import CONCERN_ONE_IMAGE
from ..errors import InvalidInput, ModelNotFound, VisionError
from ..images.inputs import ImageLike
from ..images.lines import line_columns
from ..images.web import fetched, is_web_address
from ..results import Reading
from . import explaining, faces, objects, page
from .arguments import Run, parser
from .batch import INTERRUPTED, OK, SOME_FAILED, Batch
from .display import classification_tables, growing_text, health_text, models_table, reading_lines, warn
from .output import until_closed
from .robustness import command as robustness
from .server_options import client_of

__all__ = ["main"]

USAGE, NO_SERVER, NO_MODEL = 2, 3, 4
MOST_TRACES_TOLD = 10  # the last ones
STRIP_COLUMNS = 32  # shown at a time; the library cuts columns of any number


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors are told on standard error, none is raised.

    arguments: those after the program's name; None: the process's own. Raises SystemExit for wrong usage,
        --help and --version, as argparse does.
    """
    return until_closed(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        options = parser(RUNS).parse_args(arguments)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower, and refuses
        run: Run = options.run
        with _logs_told(), client_of(options) as client:
            try:
                return run(client, options)
            finally:
                _tell_traces(client)
    except KeyboardInterrupt:
        return INTERRUPTED
    except VisionError as error:
        warn(f"error: {error}")
        return _exit_code(error)


def _classify(client: VisionClient, options: argparse.Namespace) -> int:
    batch = Batch(options)
    results = client.classify_iter(batch.images(), options.top, model=options.model, on_error="return")
    return batch.report(([result] for result in results), classification_tables)


def _read(client: VisionClient, options: argparse.Namespace) -> int:
    batch = Batch(options)
    if options.stream and (options.beam_width or options.lines):
        given = "--lines" if options.lines else "--beam-width"
        raise InvalidInput(f"{given} is for whole images; a stream is one line, decoded greedily. Drop one.")
    if options.stream:
        streamed = ([_stream(client, image, options)] for image in batch.images())
        return batch.report(streamed, reading_lines)
    model = options.model or defaults.LINE_READER
    if options.lines:
        pages = (_page(client, image, options.beam_width, model) for image in batch.images())
        return batch.report(pages, reading_lines, unit="lines")
    results = client.read_text_iter(batch.images(), options.beam_width, model=model, on_error="return")
    return batch.report(([result] for result in results), reading_lines)


def _page(
    client: VisionClient, image: ImageLike, beam_width: int | None, model: str
) -> list[Reading | VisionError]:
    try:
        return client.read_lines(image, beam_width, model=model, on_error="return")
    except CONCERN_ONE_IMAGE as error:
        return [error]


def _stream(client: VisionClient, image: ImageLike, options: argparse.Namespace) -> Reading | VisionError:
    """Sends one line strip by strip and shows the text as it grows."""
    model = options.model or defaults.STREAM_READER
    try:
        if options.allow_urls and is_web_address(image):
            image = fetched(image, options.timeout)
        columns = line_columns(image, options.inverted or None)
        with client.stream_text(model=model) as stream:
            for start in range(0, columns.shape[1], STRIP_COLUMNS):
                stream.send(columns[:, start : start + STRIP_COLUMNS])
                passed = min(start + STRIP_COLUMNS, columns.shape[1])
                if options.json:
                    print(json.dumps({"columns": passed, "text": stream.text}), flush=True)
                else:
                    growing_text(passed, columns.shape[1], stream.text)
    except CONCERN_ONE_IMAGE as error:
        return error
    return Reading("", stream.model, stream.version or "", stream.weights, stream.text, None)


def _tell_traces(client: VisionClient) -> None:
    """How the questions that were traced are looked at."""
    ids = client.tracer.ids if client.tracer else []
    for trace in ids[-MOST_TRACES_TOLD:]:
        warn(f"traced: {SERVER_COMMAND} trace {trace}")


def _models(client: VisionClient, options: argparse.Namespace) -> int:
    models = client.models()
    if options.json:
        for model in models:
            print(json.dumps(asdict(model)))
    else:
        models_table(models, client.url)
    return OK


def _health(client: VisionClient, options: argparse.Namespace) -> int:
    health = client.health()
    print(json.dumps(asdict(health)) if options.json else health_text(health))
    return OK if health.ready else SOME_FAILED


RUNS: dict[str, Run] = {
    "classify": _classify,
    "read": _read,
    "explain": explaining.run,
    "robustness": robustness.run,
    "detect": objects.detect,
    "faces": faces.find,
    "compare-faces": faces.compare,
    "web": page.run,
    "models": _models,
    "health": _health,
}


def _exit_code(error: VisionError) -> int:
    if isinstance(error, ModelNotFound):
        return NO_MODEL
    if isinstance(error, InvalidInput):
        return USAGE
    return NO_SERVER


class _Told(logging.Handler):
    """To standard error, where a progress bar may stand."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


@contextmanager
def _logs_told() -> Iterator[None]:
    """What the library logs is told, and to nobody else."""
    handler, before = _Told(logging.INFO), (log.level, log.propagate)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before
