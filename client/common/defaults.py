"""Every default of the clients and of the command, each once."""

from __future__ import annotations

__all__ = [
    "BEAM_WIDTH",
    "CLASSIFIER",
    "COMMAND_PATIENCE_S",
    "CONCURRENCY",
    "DECODER",
    "DETECTOR",
    "EXPLAINER",
    "FACE_DETECTOR",
    "FACE_EMBEDDER",
    "FACE_EVIDENCE",
    "FIRST_WAIT_S",
    "HOST",
    "LEAST_FACE_SCORE",
    "LINE_READER",
    "LONGEST_WAIT_S",
    "MASKS",
    "PATIENCE_S",
    "PORTS",
    "PROTOCOL",
    "RETRIES",
    "SAME_PERSON_BELOW",
    "SCENE_CLASSIFIER",
    "STREAM_READER",
    "TIMEOUT_S",
    "TOP_K",
    "TRACES_URL",
    "WEB_HOST",
    "WEB_PORT",
]

HOST = "localhost"
PROTOCOL = "grpc"
PORTS = {"grpc": 8001, "http": 8000}  # Triton's own

TIMEOUT_S = 30.0
RETRIES = 3
FIRST_WAIT_S = 0.1  # before the first further attempt; each later wait is twice as long ...
LONGEST_WAIT_S = 2.0  # ... up to this
PATIENCE_S = None  # of the library: what `timeout_s` leaves
COMMAND_PATIENCE_S = 60.0  # of the command: a server of this repository starts in 5 to 20 s
CONCURRENCY = 16
WEB_HOST, WEB_PORT = "127.0.0.1", 8080
TRACES_URL = "http://127.0.0.1:8003"  # the launcher's status port

CLASSIFIER = "recognize_objects"
SCENE_CLASSIFIER = "recognize_scene"
EXPLAINER = "explain_objects"
MASKS = 400  # copies of an image that explain it by "rise" (docs/why/explanations.md)
DECODER = "image_decoder"  # makes pixels for the models that take those
TOP_K = 5
LINE_READER = "read_text"
BEAM_WIDTH = None  # greedily: the likeliest character of every step
STREAM_READER = "text_stream"

DETECTOR = "detect_objects"

FACE_DETECTOR = "detect_faces"
FACE_EMBEDDER = "face_embedder"
LEAST_FACE_SCORE = 0.9  # of a face that is compared
SAME_PERSON_BELOW = 0.87  # the distance; half way between the pairs of FACE_EVIDENCE (docs/why/faces.md)
FACE_EVIDENCE = (
    "the threshold was set on ten pairs of one person (distances up to 0.83) and 43 of different people "
    "(from 0.91), all of which it parts; so few say little about other faces, so decide nothing about people "
    "by it"
)
