"""What `make demo` shows: real photographs and lines of text, recognised by the real Triton server.

Starts a server of its own on free ports, asks it over gRPC with the client library, prints what it
answered and how it batched, and stops it.
"""

import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rich.console import Console
from rich.table import Table

from client import VisionClient, line_columns
from export.sources.photographs import Photograph, photographs
from export.sources.text_lines import TextLine, page_lines
from server import ServerError, TritonServer, config_path

SHOWN = ("chelsea", "coffee", "rocket", "camera", "motorcycle_left", "imagenet_04_949", "imagenet_13_471")
BURST = 64
MODEL, CNN = "recognize_objects", "efficientnet_lite0"
# text, ink, paper, radius of the blur in pixels; in the typeface that Pillow carries, which has no accents
RENDERED = (
    ("Wake the quirky yak by 6:45 pm", "black", "white", 0),
    ("Total: R$ 1.284,50", "navy", "lightyellow", 0.8),
    ("Light on dark, too: 99 %", "gold", "darkgreen", 0.8),
    ("KWANZA 2026, page 317", "dimgray", "silver", 1.2),
)
CAMERA_COLUMNS = 48  # that the line-scan camera gives at a time


def main() -> int:
    console = Console()
    log = Path(tempfile.mkdtemp(prefix="triton-vision-demo-")) / "triton.log"
    console.print(f"Starting Triton; its log is {log}")
    try:
        with TritonServer(log=log) as server, VisionClient(server.grpc_url, concurrency=BURST) as client:
            health = client.health()
            console.print(
                f"Triton {health.version} ({server.installation.kind}) is ready at {server.grpc_url}\n"
            )
            console.print(models_table(client))
            found = photographs()
            console.print(answers_table(client, [photo for photo in found if photo.name in SHOWN]))
            console.print(burst(client, server, found))
            photographed = page_lines()
            lines = rendered_lines() + photographed
            console.print(readings_table(client, lines))
            stream(console, client, photographed[1])
    except ServerError as error:
        console.print(f"demo: {error}", style="red")
        return 1
    console.print(
        "Serve it yourself with `make serve`, then `python -m client classify PHOTO...` or `read LINE...`"
    )
    return 0


def models_table(client: VisionClient) -> Table:
    table = Table("model", "version", "state", "backend", "weights", title="Served")
    for model in client.models():
        table.add_row(model.name, model.version, model.state, model.backend, model.weights or "")
    return table


def answers_table(client: VisionClient, shown: list[Photograph]) -> Table:
    table = Table("photograph", "recognised as", "", "or as", title="recognize_objects: JPEG or PNG in")
    predictions = client.classify([photo.path for photo in shown], top_k=3)
    for photo, prediction in zip(shown, predictions, strict=True):
        best, *others = prediction.classes
        alternatives = ", ".join(f"{other.label} {other.probability:.0%}" for other in others)
        table.add_row(photo.path.name, best.label, f"{best.probability:.0%}", alternatives)
    return table


def burst(client: VisionClient, server: TritonServer, found: list[Photograph]) -> str:
    """Send `BURST` photographs at once, one a request, and say in how many executions they ran.

    Those of the CNN where recognize_objects is an ensemble, as on a GPU; elsewhere one process does it all.
    """
    ensemble = config_path(server.model_repository, MODEL).name == "config.pbtxt"
    executed = CNN if ensemble else MODEL
    images = [found[i % len(found)].path for i in range(BURST)]
    before, start = server.statistics(executed), time.perf_counter()
    client.classify(images)
    seconds = time.perf_counter() - start
    while (after := server.statistics(executed))[0] < before[0] + BURST:
        time.sleep(0.01)  # Triton counts an execution just after it has sent the answers
    requests, executions = (later - earlier for later, earlier in zip(after, before, strict=True))
    return (
        f"\nDynamic batching: {requests} requests at once became {executions} executions of {executed}, "
        f"{requests / executions:.1f} images each, in {seconds:.2f} s.\n"
    )


def rendered_lines() -> list[TextLine]:
    font, lines = ImageFont.load_default(size=40), []
    for text, ink, paper, blur in RENDERED:
        left, top, right, bottom = font.getbbox(text)
        image = Image.new("RGB", (right - left + 40, bottom - top + 30), paper)
        ImageDraw.Draw(image).text((20 - left, 15 - top), text, ink, font)
        lines.append(TextLine(image.filter(ImageFilter.GaussianBlur(blur)), text))
    return lines


def readings_table(client: VisionClient, lines: list[TextLine]) -> Table:
    table = Table(
        "read as", "confidence", "is", title="read_text: four rendered lines, six photographed ones"
    )
    for line, reading in zip(lines, client.read_text([line.image for line in lines]), strict=True):
        right = "right" if reading.text == line.text else f"in truth: {line.text}"
        table.add_row(reading.text, f"{reading.confidence:.1%}", right)
    return table


def stream(console: Console, client: VisionClient, line: TextLine) -> None:
    """Let one line pass a line-scan camera; the server keeps its state between the strips."""
    console.print("\ntext_stream: a photographed line passes the camera, and its text grows")
    columns = line_columns(line.image)
    with client.stream_text() as reader:
        for start in range(0, columns.shape[1], CAMERA_COLUMNS):
            text = reader.send(columns[:, start : start + CAMERA_COLUMNS])
            console.print(f"  {text}", markup=False, highlight=False)
    console.print(f"  {reader.text}\n", style="bold", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
