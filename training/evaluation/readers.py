"""Who reads the test lines: networks of ours and others, Tesseract, and a running server.

A reader has a `name`, a `version`, and `read(lines)`, which gives one text per line.
"""

import importlib.metadata
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

from export.common.packages import file_sha256
from training.errors import PeerError
from training.lines.generator import GeneratedLine
from training.reading import read_lines
from training.recipes import RECIPES, Recipe, channels_last
from training.state import load_weights

if TYPE_CHECKING:
    from client import Reading, VisionError

__all__ = [
    "NetworkReader",
    "Reader",
    "ServedReader",
    "TesseractReader",
    "legere_reader",
    "reader_versions",
    "weights_reader",
]

TESSERACT_LANGUAGES = {"portuguese": "por"}  # of a line's kind; eng for all others
TESSERACT_ROWS = 64  # smaller lines are enlarged for it, as its manual advises
STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014", "''\"\"--")  # quotes and dashes that we lack
TESSERACT_BORDER = 12  # pixels of paper around, which its line mode needs


class Reader(Protocol):
    """Whatever reads lines; `PeerError` if it cannot."""

    name: str
    version: str

    def read(self, lines: list[GeneratedLine]) -> list[str]:
        """A text per line, in order."""


class NetworkReader:
    """A network in this process, on one thread, decoded greedily."""

    def __init__(self, name: str, version: str, recipe: Recipe, network: nn.Module) -> None:
        self.name, self.version = name, version
        self._recipe, self._network = recipe, channels_last(network.eval())

    def read(self, lines: list[GeneratedLine]) -> list[str]:
        """See Reader.read; of each line it takes `pixels`, UINT8 [32, w]."""
        return read_lines(self._recipe, self._network, [line.pixels for line in lines])


def weights_reader(model: str, path: Path) -> NetworkReader:
    """Our weights. Raises `StateError` if the file cannot be read or does not fit."""
    network = RECIPES[model].network()
    load_weights(network, path)
    return NetworkReader(model, f"{path.name} {file_sha256(path)[:12]}", RECIPES[model], network)


def legere_reader() -> NetworkReader:
    """The pretrained recogniser as it is in its package, which is fetched if need be: `PackageError`."""
    recipe = RECIPES["text_recognizer"]
    return NetworkReader("legere", "0.11.0", recipe, recipe.start())


class TesseractReader:
    """Debian's `tesseract --psm 7` on the image that the camera saw. Raises `PeerError` if not installed."""

    name = "tesseract"

    def __init__(self) -> None:
        if not shutil.which("tesseract"):
            raise PeerError("tesseract is not installed: apt-get install tesseract-ocr tesseract-ocr-por")
        listed = self._run(["--list-langs"])
        missing = {"eng", "por"}.difference(listed.split())
        if missing:
            raise PeerError(f"tesseract has no {' and no '.join(sorted(missing))}: install tesseract-ocr-por")
        self.version = self._run(["--version"]).split()[1]

    def read(self, lines: list[GeneratedLine]) -> list[str]:
        """See Reader.read; of each line it takes `image`, and its `kind` for the language."""
        texts = [""] * len(lines)
        for language in ("eng", "por"):
            chosen = [
                i for i, line in enumerate(lines) if TESSERACT_LANGUAGES.get(line.kind, "eng") == language
            ]
            for i, text in zip(chosen, self._pages([lines[i] for i in chosen], language), strict=True):
                texts[i] = text
        return texts

    def _pages(self, lines: list[GeneratedLine], language: str) -> list[str]:
        if not lines:
            return []
        with tempfile.TemporaryDirectory() as folder:
            names = []
            for i, line in enumerate(lines):
                names.append(f"{folder}/{i}.png")
                _for_tesseract(line.image).save(names[-1])
            listing = Path(folder) / "list.txt"
            listing.write_text("\n".join(names) + "\n")
            output = self._run([str(listing), "stdout", "--psm", "7", "-l", language])
        pages = output.split("\f")[: len(lines)]
        if len(pages) != len(lines):
            raise PeerError(f"tesseract gave {len(pages)} pages for {len(lines)} lines")
        return [" ".join(page.translate(STRAIGHT).split()) for page in pages]

    @staticmethod
    def _run(arguments: list[str]) -> str:
        environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}  # more threads make it slower
        done = subprocess.run(
            ["tesseract", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PeerError(f"tesseract {' '.join(arguments)} failed: {done.stderr.strip()[-300:]}")
        return done.stdout


class ServedReader:
    """The model on a running server, through the client library. `PeerError` for what the client raises.

    `read_text` gets the camera's image as PNG; `text_stream` gets the columns of the line.
    """

    def __init__(self, model: str, url: str) -> None:
        from client import InvalidImage, VisionClient, VisionError  # only here: training needs no client

        self.name = {"text_recognizer": "read_text", "text_stream": "text_stream served"}[model]
        self.version = f"at {url}"
        self._client, self._error, self._no_line = VisionClient(url), VisionError, InvalidImage

    def read(self, lines: list[GeneratedLine]) -> list[str]:
        """See Reader.read."""
        try:
            if self.name == "read_text":
                images = [_png(line.image) for line in lines]
                return [self._text(one) for one in self._client.read_text(images, on_error="return")]
            return [self._streamed(line.pixels) for line in lines]
        except self._error as error:
            raise PeerError(f"{self.name} {self.version}: {error}") from error

    def _text(self, one: "Reading | VisionError") -> str:
        """An image that is refused as holding no line counts as read: as ""."""
        if isinstance(one, self._no_line):
            return ""
        if isinstance(one, self._error):
            raise one
        return one.text

    def _streamed(self, pixels: NDArray[Any]) -> str:
        with self._client.stream_text() as stream:
            stream.send(pixels)
            return stream.close()


def reader_versions() -> dict[str, str]:
    """Versions of what an evaluation depends on."""
    return {name: importlib.metadata.version(name) for name in ("torch", "pillow", "numpy")}


def _for_tesseract(image: Image.Image) -> Image.Image:
    paper = int(np.median(np.asarray(image)))
    if image.height < TESSERACT_ROWS:
        factor = TESSERACT_ROWS / image.height
        image = image.resize((round(image.width * factor), TESSERACT_ROWS), Image.Resampling.BICUBIC)
    return ImageOps.expand(image, TESSERACT_BORDER, paper)


def _png(image: Image.Image) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()
