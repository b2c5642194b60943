"""What `make demo` shows: real photographs, recognised by the real Triton server, in batches.

Starts a server of its own on free ports, asks it over gRPC with the client library, prints what it
answered and how it batched, and stops it.
"""

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client import VisionClient
from export.photographs import Photograph, photographs
from server import ServerError, TritonServer

SHOWN = ("chelsea", "coffee", "rocket", "camera", "motorcycle_left", "imagenet_04_949", "imagenet_13_471")
BURST = 64
CNN = "efficientnet_lite0"


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
    except ServerError as error:
        console.print(f"demo: {error}", style="red")
        return 1
    console.print("Serve it yourself with `make serve`, then `python -m client classify PHOTO...`")
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
    """Send `BURST` photographs at once, one a request, and say in how many executions the CNN ran them."""
    images = [found[i % len(found)].path for i in range(BURST)]
    before, start = server.statistics(CNN), time.perf_counter()
    client.classify(images)
    seconds = time.perf_counter() - start
    while (after := server.statistics(CNN))[0] < before[0] + BURST:
        time.sleep(0.01)  # Triton counts an execution just after it has sent the answers
    requests, executions = (later - earlier for later, earlier in zip(after, before, strict=True))
    return (
        f"\nDynamic batching: {requests} requests at once became {executions} executions of {CNN}, "
        f"{requests / executions:.1f} images each, in {seconds:.2f} s.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
