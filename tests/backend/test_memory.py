"""What large requests take goes back to the system, and what is declared too large takes nothing."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from onnx import helper
from PIL import Image
from tritonclient.utils import InferenceServerException

from server import TritonServer
from tests import sanitized
from tests.conftest import ROOT
from tests.graphs import FLOAT, graph, infer, load
from tests.pictures import pixels
from tests.processes import descendants, wait_until, without_planner
from tests.text_lines import TEXTS, rendered

REPOSITORY = ROOT / "model_repository"
MODEL = REPOSITORY / "text_recognizer"
IMAGE_MODELS = (
    *("image_decoder", "recognize_objects", "recognize_scene", "explain_objects"),
    *("read_text", "detect_faces"),
)
ONE_PROCESS_MIB = 16  # beyond `TOLERANCE`, where one of 30 MiB was
TOLERANCE = 1.10
LOOKS = 60


def resident_mib(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def peak_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**10


def lowest_mib(pid):
    """Once `LOOKS` in a row, which take three seconds or more, have found the same."""
    seen = []

    def steady():
        seen.append(resident_mib(pid))
        return len(seen) > LOOKS and max(seen[-LOOKS:]) - min(seen[-LOOKS:]) < 1

    wait_until(steady)
    return min(seen)


def mixed_shapes(count):
    """Batches of lines: most of them ordinary, some large, and one of the largest that the model takes."""
    random = np.random.default_rng(1)
    shapes = [(random.integers(1, 9), 32, random.integers(64, 1200)) for _ in range(count - 7)]
    shapes += [(random.integers(8, 17), 32, random.integers(2_000, 4_000)) for _ in range(6)]
    random.shuffle(shapes)
    shapes.insert(count // 2, (32, 32, 4096))
    return [tuple(map(int, shape)) for shape in shapes]


@pytest.mark.slow
@pytest.mark.skipif(sanitized.wanted(), reason="a sanitizer keeps what is freed")
@pytest.mark.parametrize("protocol", [http, grpc], ids=["http", "grpc"])
def test_resident_memory_returns_after_200_requests_of_mixed_sizes(tmp_path, capsys, protocol):
    shutil.copytree(MODEL, tmp_path / "models" / MODEL.name)
    with TritonServer(tmp_path / "models", log=tmp_path / "log") as server:
        triton = descendants(server.pid)[0]
        options = {"network_timeout": 200, "connection_timeout": 200} if protocol is http else {}
        url = server.http_url if protocol is http else server.grpc_url
        with protocol.InferenceServerClient(url, **options) as client:

            def ask(shape):
                tensor = protocol.InferInput("line", list(shape), "UINT8")
                tensor.set_data_from_numpy(np.full(shape, 255, np.uint8))
                client.infer(MODEL.name, [tensor])

            for shape in [(8, 32, 1200)] * 10:
                ask(shape)
            before = lowest_mib(triton)
            for shape in mixed_shapes(200):
                ask(shape)
            highest = peak_mib(triton)
            wait_until(lambda: resident_mib(triton) <= TOLERANCE * before)
            after = resident_mib(triton)
    assert highest > 2 * before, "these requests do not show anything"
    with capsys.disabled():
        print(
            f"\n200 requests by {protocol.__name__}: {before:.0f} MiB before, {highest:.0f} at most, "
            f"{after:.0f} after"
        )


def private_mib(pids):
    """Without shared memory, of which Triton's Python backend keeps what a model once needed."""
    found = {}
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        found[pid] = int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 2**10
    return found


def encoded(image):
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(sanitized.wanted(), reason="a sanitizer keeps what is freed")
def test_what_large_photographs_take_goes_back(tmp_path, capsys):
    """Of every process: tritonserver, whose networks look for faces, and those of the models."""
    photo, line = Image.fromarray(pixels("astronaut")), encoded(rendered(TEXTS[0]).convert("RGB"))
    sizes = {side: encoded(photo.resize((side, side))) for side in (200, 512, 1500, 2500, 4000)}
    with (
        TritonServer(REPOSITORY, log=tmp_path / "log") as server,
        grpc.InferenceServerClient(server.grpc_url) as client,
    ):
        pids = without_planner(descendants(server.pid))
        triton = pids[0]

        def ask(data):
            for model in IMAGE_MODELS:
                image = grpc.InferInput("encoded_image", [1, 1], "BYTES")
                image.set_data_from_numpy(np.array([[line if model == "read_text" else data]], np.object_))
                client.infer(model, [image])

        def steady():
            seen.append(private_mib(pids))
            recent = [sum(one.values()) for one in seen[-LOOKS:]]
            return len(seen) > LOOKS and max(recent) - min(recent) < 1

        seen = []
        for _ in range(4):
            ask(sizes[512])
        wait_until(steady)
        before, highest = seen[-1], max(peak_mib(pid) for pid in pids[1:])
        for side in (200, 4000, 1500, 2500, 200, 2500, 4000, 512):
            ask(sizes[side])
        assert max(peak_mib(pid) for pid in pids[1:]) > 2 * highest, "these requests do not show anything"

        def returned():
            after = seen[-1]
            return (
                after[triton] <= TOLERANCE * before[triton]
                and sum(after.values()) <= TOLERANCE * sum(before.values())
                and all(after[pid] <= TOLERANCE * before[pid] + ONE_PROCESS_MIB for pid in pids)
            )

        wait_until(lambda: seen.append(private_mib(pids)) or returned())
        after = seen[-1]
    with capsys.disabled():
        print(
            f"\ntritonserver {before[triton]:.0f} MiB before, {after[triton]:.0f} after; all "
            f"{sum(before.values()):.0f} before, {sum(after.values()):.0f} after"
        )


WIDTHS = graph(
    [helper.make_node("Add", ["x", "z"], ["y"])],
    [("x", FLOAT, ["n", "m", "k"]), ("z", FLOAT, ["n", "m", "k"])],
    [("y", FLOAT, ["n", "m", "k"])],
)


@pytest.fixture(params=["native", "python"], scope="module")
def half(request):
    return request.param


def test_a_declared_bound_is_enforced_before_anything_runs(client, repository):
    bound = 'parameters { key: "max_shape" value { string_value: "x=-1,8" } }'
    load(client, repository, "bounded", WIDTHS, f"max_batch_size: 8 dynamic_batching {{ }} {bound}")
    fits, wide = np.ones((2, 9, 8), np.float32), np.ones((2, 9, 9), np.float32)
    assert infer(client, "bounded", x=fits, z=fits).as_numpy("y").shape == fits.shape
    with pytest.raises(InferenceServerException) as told:
        infer(client, "bounded", x=wide, z=wide)
    assert "INVALID_ARGUMENT" in told.value.status()
    assert "input 'x' has size 9 in dimension 1, more than the 8 of max_shape" in told.value.message()


def test_shrinking_may_be_asked_for(client, repository):
    shrink = (
        'parameters { key: "memory.enable_memory_arena_shrinkage" value { string_value: "cpu:0" } }'
        "max_batch_size: 8"
    )
    load(client, repository, "shrinking", WIDTHS, shrink)
    x = np.ones((1, 2, 3), np.float32)
    for _ in range(3):
        assert infer(client, "shrinking", x=x, z=x).as_numpy("y").tolist() == (x + x).tolist()
