"""Draw README's second picture: the evidence for a class, and which columns made which character.

    python docs/images/draw_explanations.py [FILE.png]

Without a file it replaces docs/images/explanations.png. The photographs are of scikit-image, free to show;
the line is the demo's.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # nothing of the repository is installed

from draw_answers import CELL, COLOURS, FAINT, GAP, INK, PAPER, PHOTO, font, grid
from PIL import Image, ImageDraw, ImageOps

from client import VisionClient, overlay, text_overlay
from demo import rendered_lines
from export.sources.photographs import photographs
from server import TritonServer

SHOWN = (("chelsea", None), ("coffee", None), ("motorcycle_left", "disk brake"))  # photograph, class
OUTPUT = Path(__file__).resolve().parent / "explanations.png"
LINE = 100  # rows of the line below


def main() -> int:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    by_name = {photo.name: photo.path for photo in photographs()}
    line = rendered_lines()[0].image
    cells = []
    with TritonServer(log="/dev/null") as server, VisionClient(server.grpc_url) as client:
        for name, label in SHOWN:
            found = client.explain(by_name[name], label)
            drawn = overlay(by_name[name], found.heatmap, found.crop)
            cells.append(cell(drawn, found.label, f"{found.probability:.1%}"))
        drawn = text_overlay(line, client.explain_text(line).characters)
    picture = grid(cells)
    picture = picture.crop((0, 0, picture.width, cells[0].height + 2 * GAP))
    drawn.thumbnail((picture.width - 40, LINE))
    whole = Image.new("RGB", (picture.width, picture.height + drawn.height + 16), PAPER)
    whole.paste(picture)
    whole.paste(drawn, ((whole.width - drawn.width) // 2, picture.height))
    whole.quantize(COLOURS).save(output, optimize=True)
    print(f"{output}: {whole.width} x {whole.height}, {output.stat().st_size / 1000:.0f} kB")
    return 0


def cell(drawn: Image.Image, label: str, share: str) -> Image.Image:
    """The drawing, and below it the class that is explained."""
    made = Image.new("RGB", (CELL[0], PHOTO[1] + 30), PAPER)
    made.paste(ImageOps.fit(drawn, PHOTO), (0, 0))
    draw = ImageDraw.Draw(made)
    draw.text((0, PHOTO[1] + 8), f"evidence for {label}", INK, font(16))
    draw.text((CELL[0], PHOTO[1] + 8), share, FAINT, font(16), anchor="ra")
    return made


if __name__ == "__main__":
    sys.exit(main())
