"""The command line of the client: classify, read, models, health."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image

from .address import PROTOCOLS, URL_VARIABLE
from .blocking import VisionClient
from .display import (
    RANDOM_WEIGHTS,
    classification_tables,
    growing_text,
    health_text,
    models_table,
    progress,
    reading_lines,
    skipped_text,
    warn,
)
from .errors import InvalidInput, ModelNotFound, VisionError
from .flows import CONCERN_ONE_IMAGE, DEFAULT_MODEL
from .images import IMAGE_SUFFIXES, files_in
from .lines import line_columns
from .results import Reading
from .text import READ_MODEL, STREAM_MODEL
from .web import fetched, is_web_address

__all__ = ["main"]

OK, SOME_FAILED, USAGE, NO_SERVER, NO_MODEL, INTERRUPTED = 0, 1, 2, 3, 4, 130
STDIN = "-"
PATIENCE_S = 60.0  # a server of this repository starts in 5 to 20 s
STRIP_COLUMNS = 32  # shown at a time; the library cuts columns of any number
EXIT_CODES = """exit codes:
  0    all images recognised (health: ready)
  1    some images failed (health: live, but not ready)
  2    wrong usage: an unknown option, no images, a model of another kind
  3    no server answers, it went away for longer than --patience, refuses access, or does not answer in time
  4    the model is not there or not ready
  130  interrupted"""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    told = _tell_what_the_library_logs()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower, and refuses
    try:
        with _client(options) as client:
            status = options.run(client, options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough; do not fail again when Python flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except VisionError as error:
        warn(f"error: {error}")
        return _exit_code(error)
    finally:
        logging.getLogger(__package__).removeHandler(told)


def _classify(client: VisionClient, options: argparse.Namespace) -> int:
    sources, skipped = _sources(options)
    results = client.classify_iter(_images(sources), options.top, model=options.model, on_error="return")
    return _report(results, sources, skipped, classification_tables, options)


def _read(client: VisionClient, options: argparse.Namespace) -> int:
    sources, skipped = _sources(options)
    if options.stream:
        if options.beam_width:
            raise InvalidInput("--beam-width is for whole lines; a stream is decoded greedily. Drop one.")
        results = (_stream(client, source, options) for source in _images(sources))
    else:
        model = options.model or READ_MODEL
        results = client.read_text_iter(_images(sources), options.beam_width, model=model, on_error="return")
    return _report(results, sources, skipped, reading_lines, options)


def _stream(client: VisionClient, image: Any, options: argparse.Namespace) -> Reading | VisionError:
    """Sends one line strip by strip and shows the text as it grows."""
    model = options.model or STREAM_MODEL
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
    return Reading("", stream.model, stream.version, stream.weights, stream.text, None)


def _report(
    results: Iterable[Any],
    sources: list[str],
    skipped: Counter[str],
    show: Callable[[Iterator[Any]], None],
    options: argparse.Namespace,
) -> int:
    tally = _Tally(_named(progress(results, len(sources)), sources))
    try:
        if options.json:
            for result in tally:
                print(json.dumps(_as_json(result)), flush=True)
            if skipped:
                print(json.dumps({"skipped": dict(sorted(skipped.items()))}), flush=True)
        else:
            show(tally)
    except VisionError:
        if tally.passed:
            warn(f"{tally.passed} of {len(sources)} images were answered before this.")
        raise
    if tally.has_random_weights:
        warn(f"warning: {RANDOM_WEIGHTS}.")
    if skipped:
        warn(f"{skipped_text(skipped)}.")
    if tally.failed:
        warn(f"{tally.failed} of {len(sources)} images failed.")
    return SOME_FAILED if tally.failed else OK


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


def _images(sources: list[str]) -> Iterator[Any]:
    return (sys.stdin.buffer.read() if source == STDIN else source for source in sources)


def _sources(options: argparse.Namespace) -> tuple[list[str], Counter[str]]:
    """The images, and how many other files their folders hold, by suffix."""
    skipped: Counter[str] = Counter()
    sources = list(_files(options.images, skipped))
    if not sources:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        found = f" ({skipped_text(skipped)})" if skipped else ""
        raise InvalidInput(
            f"no images in {', '.join(options.images)}{found}; files of a folder count that end in {known}."
        )
    return sources, skipped


def _files(images: Iterable[str], skipped: Counter[str]) -> Iterator[str]:
    for photo in images:
        if photo != STDIN and os.path.isdir(photo):
            yield from map(str, files_in(Path(photo), skipped))
        else:
            yield photo


def _named(results: Iterable[Any], sources: list[str]) -> Iterator[Any]:
    """Results under the names that were given, which "-" has not got in the library."""
    for result, source in zip(results, sources, strict=True):
        if isinstance(result, VisionError):
            yield result.about(source, result.index)
        else:
            yield replace(result, source=source)


class _Tally:
    """Passes results on and remembers what the end of the run has to report."""

    def __init__(self, results: Iterable[Any]) -> None:
        self._results = iter(results)
        self.passed = self.failed = 0
        self.has_random_weights = False

    def __iter__(self) -> _Tally:
        return self

    def __next__(self) -> Any:
        result = next(self._results)
        self.passed += 1
        if isinstance(result, VisionError):
            self.failed += 1
        else:
            self.has_random_weights |= result.has_random_weights
        return result


def _as_json(result: Any) -> dict[str, Any]:
    if isinstance(result, VisionError):
        error = {"type": type(result).__name__, "message": result.message}
        return {"image": result.source, "error": error}
    fields = {name: value for name, value in asdict(result).items() if name != "confidence" or value}
    return {"image": fields.pop("source"), **fields}


def _exit_code(error: VisionError) -> int:
    if isinstance(error, ModelNotFound):
        return NO_MODEL
    if isinstance(error, InvalidInput):
        return USAGE
    return NO_SERVER


def _client(options: argparse.Namespace) -> VisionClient:
    headers = dict(_header(text) for text in options.header)
    return VisionClient(
        options.url,
        protocol=options.protocol,
        timeout_s=options.timeout,
        retries=options.retries,
        patience_s=options.patience,
        concurrency=getattr(options, "concurrency", 1),
        headers=headers,
        ssl=options.ssl,
        root_certificates=options.root_certificates,
        private_key=options.private_key,
        certificate_chain=options.certificate_chain,
        shared_memory=getattr(options, "shared_memory", False),
        allow_urls=getattr(options, "allow_urls", False),
    )


class _Told(logging.Handler):
    """To standard error, where a progress bar may stand."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


def _tell_what_the_library_logs() -> logging.Handler:
    logger, handler = logging.getLogger(__package__), _Told(logging.INFO)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return handler


def _add_images(command: argparse.ArgumentParser, metavar: str) -> None:
    command.add_argument(
        "images",
        nargs="+",
        metavar=metavar,
        help="a file, a folder (searched at any depth), - for stdin, or an address",
    )
    command.add_argument(
        "--concurrency", type=int, default=16, metavar="N", help="images under way (default: 16)"
    )
    command.add_argument(
        "--shared-memory", action="store_true", help="hand images over in /dev/shm (server on the same host)"
    )
    command.add_argument(
        "--allow-urls",
        action="store_true",
        help="fetch images given as http:// or https:// addresses, from this machine",
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon):
        raise InvalidInput(f"header '{text}' is not of the form 'Name: value'.")
    return name.strip(), value.strip()


def _parser() -> argparse.ArgumentParser:
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": EXIT_CODES}
    parser = argparse.ArgumentParser(
        prog="python -m client", description="Ask a Triton server what images show.", **layout
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    classify = commands.add_parser("classify", help="recognise images", **layout)
    classify.set_defaults(run=_classify)
    _add_images(classify, "PHOTO")
    classify.add_argument("--model", default=DEFAULT_MODEL, help="default: %(default)s")
    classify.add_argument("--top", type=int, default=5, metavar="K", help="classes per image (default: 5)")

    read = commands.add_parser("read", help="read images of one line of text each", **layout)
    read.set_defaults(run=_read)
    _add_images(read, "LINE")
    read.add_argument("--model", help=f"default: {READ_MODEL}, with --stream {STREAM_MODEL}")
    read.add_argument(
        "--beam-width", type=int, metavar="N", help="decode with a beam of 1 to 64 (default: greedily)"
    )
    read.add_argument(
        "--stream", action="store_true", help="send each line strip by strip and show the text as it grows"
    )
    read.add_argument(
        "--inverted", action="store_true", help="with --stream: light on dark (default: by the border)"
    )
    models = commands.add_parser("models", help="list the server's models", **layout)
    models.set_defaults(run=_models)
    health = commands.add_parser("health", help="is the server live and ready?", **layout)
    health.set_defaults(run=_health)

    for command in (classify, read, models, health):
        command.add_argument("--json", action="store_true", help="one JSON object per line")
        server = command.add_argument_group("server")
        server.add_argument(
            "--url",
            help="HOST:PORT, or with grpc://, grpcs://, http://, https:// in front "
            f"(default: ${URL_VARIABLE}, else localhost at 8001 for gRPC, 8000 for HTTP)",
        )
        server.add_argument("--protocol", choices=PROTOCOLS, help="default: grpc")
        server.add_argument(
            "--timeout",
            type=float,
            default=30.0,
            metavar="S",
            help="seconds per image or question (default: 30)",
        )
        server.add_argument(
            "--retries", type=int, default=3, metavar="N", help="default: 3; 0: never try again, in no case"
        )
        server.add_argument(
            "--patience",
            type=float,
            default=PATIENCE_S,
            metavar="S",
            help="seconds to wait for a server that answered before and restarts (default: %(default)g)",
        )
        server.add_argument(
            "--header",
            action="append",
            default=[],
            metavar="'NAME: VALUE'",
            help="sent along; may be repeated",
        )
        server.add_argument("--ssl", action="store_true", help="use TLS")
        server.add_argument("--root-certificates", metavar="PEM", help="who may have signed the server's")
        server.add_argument("--certificate-chain", metavar="PEM", help="the client's own, for mutual TLS")
        server.add_argument("--private-key", metavar="PEM", help="of the client's own certificate")
    return parser
