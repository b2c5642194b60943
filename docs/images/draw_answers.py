"""Draw README's picture: photographs, a face and lines of text with what a real server here answered.

    python docs/images/draw_answers.py [FILE.png]

Without a file it replaces docs/images/answers.png. The photographs are of scikit-image, free to show;
the lines are the demo's.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # nothing of the repository is installed

from PIL import Image, ImageDraw, ImageFont, ImageOps

from client import Face, Faces, Prediction, Reading, VisionClient, face_overlay
from demo import rendered_lines
from export.sources.photographs import Photograph, photographs
from export.sources.text_lines import TextLine, page_lines
from server import TritonServer

SHOWN = ("chelsea", "coffee", "camera", "rocket")
FACE = "astronaut"
LINES = 3
OUTPUT = Path(__file__).resolve().parent / "answers.png"
CELL, PHOTO, GAP = (300, 272), (300, 188), 16  # width and height in pixels
COLUMNS, COLOURS = 3, 160
INK, FAINT, PAPER, BAR = "#1b1f24", "#5c6670", "#ffffff", "#76b900"


def main() -> int:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    by_name = {photo.name: photo for photo in photographs()}
    shown = [by_name[name] for name in SHOWN]
    lines = [*rendered_lines()[1:LINES], page_lines()[0]]
    with TritonServer(log="/dev/null") as server, VisionClient(server.grpc_url) as client:
        predictions = client.classify([photo.path for photo in shown], top_k=3)
        readings = client.read_text([line.image for line in lines])
        faces = client.detect_faces(by_name[FACE].path)
    cells = [photograph_cell(*pair) for pair in zip(shown, predictions, strict=True)]
    picture = grid([*cells, face_cell(by_name[FACE], faces), lines_cell(lines, readings)])
    picture.quantize(COLOURS).save(output, optimize=True)
    print(f"{output}: {picture.width} x {picture.height}, {output.stat().st_size / 1000:.0f} kB")
    return 0


def photograph_cell(photo: Photograph, prediction: Prediction) -> Image.Image:
    """The photograph, and below it its three likeliest classes with bars."""
    cell = Image.new("RGB", CELL, PAPER)
    with Image.open(photo.path) as image:
        cell.paste(ImageOps.fit(image.convert("RGB"), PHOTO), (0, 0))
    draw = ImageDraw.Draw(cell)
    for place, found in enumerate(prediction.classes):
        top = PHOTO[1] + 8 + 25 * place
        colour = FAINT if place else INK
        draw.rectangle((0, top + 20, round(CELL[0] * found.probability), top + 22), BAR)
        draw.text((0, top), found.label, colour, font(16))
        draw.text((CELL[0], top), f"{found.probability:.0%}", colour, font(16), anchor="ra")
    return cell


def face_cell(photo: Photograph, found: Faces) -> Image.Image:
    """The upper part of the photograph with the face drawn, and its box and score below."""
    cell = Image.new("RGB", CELL, PAPER)
    with Image.open(photo.path) as image:
        share = PHOTO[0] / image.width
        small = image.convert("RGB").resize((PHOTO[0], round(image.height * share)))
    faces = [scaled(face, share) for face in found.faces]  # drawn small, so that tags can be read
    cell.paste(face_overlay(small, faces).crop((0, 0, *PHOTO)), (0, 0))
    draw = ImageDraw.Draw(cell)
    for place, face in enumerate(found.faces):
        left, top, right, bottom = (round(side) for side in face.box)
        below = PHOTO[1] + 8 + 25 * place
        text = f"face, {right - left} x {bottom - top} pixels at {left}, {top}"
        draw.text((0, below), text, INK, font(16))
        draw.text((CELL[0], below), f"{face.score:.0%}", INK, font(16), anchor="ra")
    return cell


def scaled(face: Face, share: float) -> Face:
    """The same face in a photograph of another size."""
    left, top, right, bottom = (side * share for side in face.box)
    landmarks = tuple((x * share, y * share) for x, y in face.landmarks)
    return replace(face, box=(left, top, right, bottom), landmarks=landmarks)


def lines_cell(lines: list[TextLine], readings: list[Reading]) -> Image.Image:
    """Images of lines, each above what was read."""
    cell = Image.new("RGB", CELL, PAPER)
    draw = ImageDraw.Draw(cell)
    step = CELL[1] // len(lines)
    for place, (line, reading) in enumerate(zip(lines, readings, strict=True)):
        image = line.image.convert("RGB")
        image.thumbnail((CELL[0], 46))
        cell.paste(image, (0, step * place))
        below = step * place + image.height + 6
        draw.text((0, below), reading.text, INK, font(16))
        draw.text((CELL[0], below), f"{reading.confidence:.0%}", INK, font(16), anchor="ra")
    return cell


def grid(cells: list[Image.Image]) -> Image.Image:
    width, height = CELL[0] + GAP, CELL[1] + GAP
    rows = -(-len(cells) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), PAPER)
    for place, cell in enumerate(cells):
        picture.paste(cell, (GAP + place % COLUMNS * width, GAP + place // COLUMNS * height))
    return picture


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)  # the typeface that Pillow carries


if __name__ == "__main__":
    sys.exit(main())
