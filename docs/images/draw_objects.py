"""Draw README's third picture: what was found in photographs, and where.

    python docs/images/draw_objects.py [FILE.png]

Without a file it replaces docs/images/objects.png. The photographs are of scikit-image, free to show.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # nothing of the repository is installed

from draw_answers import COLOURS, FAINT, GAP, PAPER, font
from PIL import Image, ImageDraw

from client import VisionClient, detection_overlay
from export.sources.photographs import photographs
from server import TritonServer

ROWS = (("motorcycle_left", "coffee"), ("astronaut", "chelsea"))
WIDTH = 964  # pixels of the picture: a row's photographs are as high as that lets them be
OUTPUT = Path(__file__).resolve().parent / "objects.png"


def main() -> int:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    by_name = {photo.name: photo.path for photo in photographs()}
    with TritonServer(log="/dev/null") as server, VisionClient(server.grpc_url) as client:
        rows = [row(client, {name: by_name[name] for name in names}) for names in ROWS]
    whole = Image.new("RGB", (WIDTH, sum(one.height + GAP for one in rows) + GAP), PAPER)
    top = GAP
    for one in rows:
        whole.paste(one, (0, top))
        top += one.height + GAP
    whole.quantize(COLOURS).save(output, optimize=True)
    print(f"{output}: {whole.width} x {whole.height}, {output.stat().st_size / 1000:.0f} kB")
    return 0


def row(client: VisionClient, paths: dict[str, Path]) -> Image.Image:
    """Photographs side by side, all of one height, with what was found drawn over them."""
    originals = [Image.open(path).convert("RGB") for path in paths.values()]
    room = WIDTH - GAP * (len(originals) + 1)
    height = int(room / sum(one.width / one.height for one in originals))
    cells = []
    for name, original in zip(paths, originals, strict=True):
        photograph = original.resize((round(original.width * height / original.height), height))
        cells.append(cell(detection_overlay(photograph, client.detect(photograph).objects), name))
    made = Image.new("RGB", (WIDTH, cells[0].height), PAPER)
    left = GAP
    for one in cells:
        made.paste(one, (left, 0))
        left += one.width + GAP
    return made


def cell(drawn: Image.Image, name: str) -> Image.Image:
    """The drawing, and below it which photograph that is."""
    made = Image.new("RGB", (drawn.width, drawn.height + 26), PAPER)
    made.paste(drawn)
    ImageDraw.Draw(made).text((0, drawn.height + 6), name.partition("_")[0], FAINT, font(14))
    return made


if __name__ == "__main__":
    sys.exit(main())
