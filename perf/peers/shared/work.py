"""The work itself, the same behind every peer: bytes in, an answer out. Peers add nothing but the serving.

It runs in the environments of the peers, so it imports nothing of ours but the files that Triton serves, out
of `model_repository`: those of image_decoder, read_text and detect_objects. Variables that
`perf/peers/jobs.py` sets say what to do. As a program it is the limit: one loop around the work, no server.

    work = open_work()
    answer = work.infer([work.prepare(body)])[0]
"""

import io
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

__all__ = ["Detect", "Gru", "Jpeg", "JpegAsWritten", "Text", "open_work"]

TOP = 5
WARM_UP_RUNS = 20
# read_text's, from its config.pbtxt
WIDTHS = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
COLUMNS_PER_STEP = 4
WHITE = 255


def open_work():
    """The job that the variables name. Each has `prepare(body) -> item` and `infer(items) -> answers`."""
    return JOBS[os.environ["PEER_JOB"]](
        Path(os.environ["PEER_GRAPH"]), int(os.environ["PEER_THREADS"]), Path(os.environ["PEER_REPOSITORY"])
    )


def open_session(graph: Path, threads: int) -> ort.InferenceSession:
    """On the CPU; threads: of one operator."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


class Jpeg:
    """An encoded photograph to [[class, probability], ...], the five likeliest; decoded as we do it."""

    def __init__(self, graph: Path, threads: int, repository: Path):
        self.session = open_session(graph, threads)
        sys.path.insert(0, str(repository / "image_decoder" / "1"))
        import decoding

        self.prepare = decoding.decode  # bytes -> UINT8 [224, 224, 3]

    def infer(self, items: list[np.ndarray]) -> list[list]:
        """UINT8 [224, 224, 3] each, in one batch."""
        (probabilities,) = self.session.run(["probabilities"], {"image": np.stack(items)})
        best = np.argsort(-probabilities, axis=1)[:, :TOP]
        return [
            [[int(c), float(row[c])] for c in order] for row, order in zip(probabilities, best, strict=True)
        ]


class JpegAsWritten(Jpeg):
    """The same, decoded as tutorials do it: the whole photograph with Pillow, then resize and crop."""

    def __init__(self, graph: Path, threads: int, repository: Path):
        from PIL import Image

        self.session = open_session(graph, threads)
        self.image = Image

    def prepare(self, body: bytes) -> np.ndarray:
        """A file to UINT8 [224, 224, 3]; its orientation is not looked at."""
        image = self.image.open(io.BytesIO(body)).convert("RGB")
        scale = 256 / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        image = image.resize((width, height), self.image.Resampling.BICUBIC)
        left, top = (width - 224) // 2, (height - 224) // 2
        return np.asarray(image.crop((left, top, left + 224, top + 224)))


class Gru:
    """FP32 [32, 32] as raw bytes to the probabilities of ten classes, a list."""

    def __init__(self, graph: Path, threads: int, repository: Path):
        self.session = open_session(graph, threads)

    def prepare(self, body: bytes) -> np.ndarray:
        """4,096 bytes to FP32 [32, 32]. Raises `ValueError` for any other number of them."""
        return np.frombuffer(body, np.float32).reshape(32, 32)

    def infer(self, items: list[np.ndarray]) -> list[list[float]]:
        """FP32 [32, 32] each, in one batch."""
        return self.session.run(["probabilities"], {"sequence": np.stack(items)})[0].tolist()


class Text:
    """The encoded image of a line of text to [text, confidence], with read_text's own files."""

    def __init__(self, graph: Path, threads: int, repository: Path):
        self.session = open_session(graph, threads)
        sys.path.insert(0, str(repository / "read_text" / "1"))
        import ctc
        import decoding
        import line_image

        self.ctc, self.decode, self.normalize = ctc, decoding.decode_whole, line_image.normalize_line
        self.charset = os.environ["PEER_CHARSET"]

    def prepare(self, body: bytes) -> np.ndarray:
        """A file to UINT8 [32, w]. Raises `ImageError` or `LineError`, of read_text's own files."""
        return self.normalize(self.decode(body))

    def infer(self, items: list[np.ndarray]) -> list[list]:
        """Lines of one width together, as read_text does."""
        widths = [next(width for width in WIDTHS if width >= item.shape[1]) for item in items]
        answers: list = [None] * len(items)
        for width in set(widths):
            places = [place for place, found in enumerate(widths) if found == width]
            batch = np.full((len(places), 32, width), WHITE, np.uint8)
            for row, place in zip(batch, places, strict=True):
                row[:, : items[place].shape[1]] = items[place]
            (log_probs,) = self.session.run(["log_probs"], {"line": batch})
            steps = [math.ceil(items[place].shape[1] / COLUMNS_PER_STEP) for place in places]
            rows = [part[:count] for part, count in zip(log_probs, steps, strict=True)]
            found = [self.ctc.greedy(row) for row in rows]
            logarithms = self.ctc.log_probability(rows, found)
            for place, classes, logarithm in zip(places, found, logarithms, strict=True):
                text = "".join(self.charset[number - 1] for number in classes)
                answers[place] = [text, math.exp(logarithm / max(1, len(classes)))]
        return answers


class Detect:
    """An encoded photograph to [[class, score, [left, top, right, bottom]], ...], with detect_objects' own
    files."""

    def __init__(self, graph: Path, threads: int, repository: Path):
        self.session = open_session(graph, threads)
        sys.path.insert(0, str(repository / "detect_objects" / "1"))
        import best_boxes
        import decoding
        import letterbox

        given = json.loads(os.environ["PEER_DETECTION"])
        self.decode, self.chosen = decoding.decode_whole, best_boxes.chosen
        self.letterbox = letterbox.Letterbox(
            int(given["width"]), int(given["height"]), given["fit"] == "stretch", int(given["border"])
        )
        self.wanted = best_boxes.Wanted(
            float(given["score_threshold"]),
            float(given["iou_threshold"]),
            None,
            int(given["max_detections"]),
        )

    def prepare(self, body: bytes):
        """A file to a letterboxed photograph, that knows where it lies. Raises `ImageError`."""
        return self.letterbox.placed(self.decode(body))

    def infer(self, items: list) -> list[list]:
        """Of each item the boxes, in one batch."""
        batch = np.stack([item.pixels for item in items])
        boxes, scores = self.session.run(["boxes", "scores"], {"image": batch})
        answers = []
        for item, its_boxes, its_scores in zip(items, boxes, scores, strict=True):
            found = self.chosen(its_boxes, its_scores, self.wanted)
            own = item.in_photograph(found.boxes)
            answers.append(
                [
                    [int(number), float(score), box.tolist()]
                    for number, score, box in zip(found.class_ids, found.scores, own, strict=True)
                ]
            )
        return answers


JOBS = {"jpeg": Jpeg, "jpeg-as-written": JpegAsWritten, "gru": Gru, "text": Text, "detect": Detect}


def main() -> None:
    """Read a line of JSON: {"files": [...], "seconds": n}, seconds 0 for the answers alone.

    For a rate, "ready" is printed, and the loop begins at the next line read: loops then run side by side.
    """
    asked = json.loads(sys.stdin.readline())
    work = open_work()
    bodies = [Path(file).read_bytes() for file in asked["files"]]

    def one(body: bytes):
        return work.infer([work.prepare(body)])[0]

    if not asked["seconds"]:
        print(json.dumps([one(body) for body in bodies]))
        return
    for number in range(WARM_UP_RUNS):
        one(bodies[number % len(bodies)])
    print("ready", flush=True)
    sys.stdin.readline()
    taken = []
    start = now = time.perf_counter()
    while now - start < asked["seconds"]:
        one(bodies[len(taken) % len(bodies)])
        before, now = now, time.perf_counter()
        taken.append(now - before)
    taken.sort()
    print(
        json.dumps(
            {
                "rate": len(taken) / (now - start),
                "p50_ms": 1000 * taken[len(taken) // 2],
                "p99_ms": 1000 * taken[int(len(taken) * 0.99)],
            }
        )
    )


if __name__ == "__main__":
    main()
