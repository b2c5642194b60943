"""The commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, get_args

from .._version import __version__
from ..clients.blocking import VisionClient
from ..common import defaults
from ..common.identity import COMMAND
from ..images.corruptions import CORRUPTIONS, SHORT_SIDE, STRENGTHS
from ..images.overlays import OPACITY
from ..results import ExplanationMethod
from .server_options import add_server_options

__all__ = ["Run", "parser"]

Run = Callable[[VisionClient, argparse.Namespace], int]

EXIT_CODES = """exit codes:
  0    all done: every image answered (health: ready; web: stopped as asked)
  1    some images failed (health: live, but not ready)
  2    wrong usage: an unknown option, no images, a model of another kind
  3    no server answers, it went away for longer than --patience, refuses access, or does not answer in time
  4    the model is not there or not ready
  130  interrupted; what was answered before is printed"""


class _Parser(argparse.ArgumentParser):
    """Of the command and of its subcommands."""

    def __init__(self, **given: Any) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=layout, epilog=EXIT_CODES, **given)


def parser(runs: Mapping[str, Run]) -> argparse.ArgumentParser:
    """runs: what each command does, by its name."""
    root = _Parser(prog=COMMAND, description="Ask a Triton server what images show.")
    root.add_argument("--version", action="version", version=f"triton-vision-client {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    options = {
        "classify": ("recognise images", _classify_options),
        "read": ("read images of one line of text each", _read_options),
        "explain": ("draw what made the model say what it says of an image", _explain_options),
        "robustness": ("how do answers hold when photographs get worse?", _robustness_options),
        "detect": ("find what is in photographs, and where", _detect_options),
        "faces": ("find the faces in photographs", _faces_options),
        "compare-faces": ("how alike are the faces of two photographs?", _compare_faces_options),
        "web": ("show what the server recognises on a page, in a browser", _web_options),
        "models": ("list the server's models", None),
        "health": ("is the server live and ready?", None),
    }
    for name, (said, add) in options.items():
        command = commands.add_parser(name, help=said, description=f"{said[0].upper()}{said[1:]}")
        command.set_defaults(run=runs[name])
        if add:
            add(command)
        command.add_argument("--json", action="store_true", help="one JSON object per line")
        add_server_options(command)
        if name == "web":  # the page says that it waits, and asks again
            command.set_defaults(patience=0.0, concurrency=defaults.CONCURRENCY)
    return root


def _classify_options(command: argparse.ArgumentParser) -> None:
    _image_options(command, "PHOTO")
    command.add_argument("--model", default=defaults.CLASSIFIER, help="default: %(default)s")
    command.add_argument(
        "--top",
        type=int,
        default=defaults.TOP_K,
        metavar="K",
        help="classes per image (default: %(default)s)",
    )


def _read_options(command: argparse.ArgumentParser) -> None:
    _image_options(command, "LINE")
    command.add_argument(
        "--model", help=f"default: {defaults.LINE_READER}, with --stream {defaults.STREAM_READER}"
    )
    command.add_argument(
        "--beam-width", type=int, metavar="N", help="decode with a beam of 1 to 64 (default: greedily)"
    )
    command.add_argument(
        "--lines",
        action="store_true",
        help="each image is a clean page: read its lines, in order",
    )
    command.add_argument(
        "--stream", action="store_true", help="send each line strip by strip and show the text as it grows"
    )
    command.add_argument(
        "--inverted", action="store_true", help="with --stream: light on dark (default: by the border)"
    )


def _detect_options(command: argparse.ArgumentParser) -> None:
    _image_options(command, "PHOTO")
    _output_option(command, "boxes and labels")
    command.add_argument(
        "--score-threshold",
        type=float,
        metavar="SCORE",
        help="the least score of a box, 0 to 1 (default: the model's, 0.4)",
    )
    command.add_argument(
        "--iou-threshold",
        type=float,
        metavar="SHARE",
        help="how much boxes of one class may share of what both cover, 0 to 1 (default: the model's, 0.6)",
    )
    command.add_argument(
        "--classes", metavar="A,B", help="look for these alone: labels or numbers (default: all)"
    )
    command.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="the most boxes, 1 to 1000 (default: the model's, 100)",
    )
    command.add_argument("--model", default=defaults.DETECTOR, help="default: %(default)s")


def _output_option(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=f"draw the {what} there, over the one photograph: .png, .jpg or .webp",
    )


def _faces_options(command: argparse.ArgumentParser) -> None:
    _image_options(command, "PHOTO")
    _output_option(command, "faces")
    _face_size_option(command)
    command.add_argument(
        "--thresholds",
        type=float,
        nargs=3,
        metavar=("P", "R", "O"),
        help="of the scores of the three networks, 0 to 1 (default: 0.6 0.7 0.7); after the photographs",
    )
    command.add_argument("--model", default=defaults.FACE_DETECTOR, help="default: %(default)s")


def _compare_faces_options(command: argparse.ArgumentParser) -> None:
    for name in ("a", "b"):
        command.add_argument(
            name, metavar=name.upper(), help="a photograph: a file, - for stdin, or an address"
        )
    command.add_argument(
        "--face",
        choices=("only", "largest"),
        default="only",
        help="of a photograph with several faces: refuse it, or take the largest (default: %(default)s)",
    )
    _face_size_option(command)
    command.add_argument("--model", default=defaults.FACE_EMBEDDER, help="default: %(default)s")
    command.add_argument("--detector", default=defaults.FACE_DETECTOR, help="default: %(default)s")
    _url_option(command)


def _face_size_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--min-face-size",
        type=float,
        metavar="PIXELS",
        help="do not look for smaller faces, and be faster for it (default: 20)",
    )


def _explain_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", metavar="IMAGE", help="a photograph: a file, - for stdin, or an address")
    command.add_argument(
        "--text", action="store_true", help="it is a line of text: draw which columns made which character"
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="draw it there, over the photograph: .png, .jpg or .webp",
    )
    command.add_argument(
        "--class",
        dest="class_id",
        metavar="CLASS",
        help="the class, by its label or its number (default, and -1: the likeliest)",
    )
    command.add_argument(
        "--method",
        choices=get_args(ExplanationMethod),
        help="cam: the class activation map, at once (default); rise: from copies of the photograph with "
        "places blurred, in seconds, and closer to what the class needs",
    )
    command.add_argument(
        "--opacity",
        type=float,
        default=OPACITY,
        metavar="SHARE",
        help="of the brightest colour, 0 to 1 (default: %(default)s)",
    )
    command.add_argument("--model", help=f"default: {defaults.EXPLAINER}, with --text {defaults.LINE_READER}")
    _url_option(command)


def _robustness_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="FOLDER", help="of photographs, searched at any depth")
    known = command.add_mutually_exclusive_group()
    known.add_argument(
        "--labels",
        metavar="FILE.csv",
        help="what they show: rows of file,label, the file below FOLDER, the label as the model has it or "
        "its number; accuracy is shown instead of agreement",
    )
    known.add_argument(
        "--by-folder", action="store_true", help="what they show is the name of their folder in FOLDER"
    )
    command.add_argument(
        "-o", "--output", metavar="FILE", help="draw charts there: .png, .jpg or .webp (needs matplotlib)"
    )
    command.add_argument("--model", default=defaults.CLASSIFIER, help="default: %(default)s")
    command.add_argument(
        "--corruptions", metavar="A,B", help=f"some of {','.join(CORRUPTIONS)} (default: all)"
    )
    command.add_argument(
        "--strengths", metavar="N,M", help=f"some of {','.join(map(str, STRENGTHS))} (default: all)"
    )
    command.add_argument(
        "--limit", type=int, metavar="N", help="only N photographs, drawn by the seed (default: all)"
    )
    command.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of noise, directions, places and --limit; one seed, one result (default: %(default)s)",
    )
    command.add_argument(
        "--short-side",
        type=int,
        default=SHORT_SIDE,
        metavar="PIXELS",
        help="larger photographs are made so small before they are made worse (default: %(default)s)",
    )
    _sending_options(command)


def _web_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--host",
        default=defaults.WEB_HOST,
        metavar="ADDRESS",
        help="to listen on; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    command.add_argument(
        "--port", type=int, default=defaults.WEB_PORT, help="0: any that is free (default: %(default)s)"
    )
    command.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which browsers may ask for the page, besides localhost and addresses; repeatable",
    )


def _image_options(command: argparse.ArgumentParser, metavar: str) -> None:
    command.add_argument(
        "images",
        nargs="+",
        metavar=metavar,
        help="a file, a folder (searched at any depth), - for stdin, or an address",
    )
    _sending_options(command)
    _url_option(command)


def _sending_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--concurrency",
        type=int,
        default=defaults.CONCURRENCY,
        metavar="N",
        help="images under way (default: %(default)s)",
    )
    command.add_argument(
        "--shared-memory", action="store_true", help="hand images over in /dev/shm (server on the same host)"
    )


def _url_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allow-urls",
        action="store_true",
        help="fetch images given as http:// or https:// addresses, from this machine",
    )
