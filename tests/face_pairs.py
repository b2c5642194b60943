"""Distances of all pairs of faces of which it is known whether they are one person's: docs/why/faces.md.

python -m server            # in another terminal
python -m tests.face_pairs localhost:8001
"""

import itertools
import sys
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as grpc

from client import Face, VisionClient
from client.common.defaults import LEAST_FACE_SCORE
from client.images.alignment import aligned
from export.sources.face_photographs import FacePhotograph, face_photographs

SAME, DIFFERENT, STRANGERS = "one person", "two people", "two people of one photograph"
SIDE = 224


@dataclass(frozen=True)
class Pair:
    first: str
    second: str
    kind: str
    distance: float


def pairs(url: str) -> list[Pair]:
    """As compare_faces measures them, though each face is found and described once only.

    People whose names are known, and the faces within each photograph of a group.
    """
    photographs = [photograph for photograph in face_photographs() if photograph.name != "32bit.png"]
    with VisionClient(url, timeout_s=300) as client, grpc.InferenceServerClient(url) as raw:
        found = client.detect_faces([photograph.path for photograph in photographs])
        faces = [
            (photograph, number, described(raw, photograph, face))
            for photograph, one in zip(photographs, found, strict=True)
            for number, face in enumerate(by_place(one.faces), start=1)
        ]
    return [
        Pair(name(one, number), name(other, other_number), kind, float(np.linalg.norm(embedding - other_one)))
        for (one, number, embedding), (other, other_number, other_one) in itertools.combinations(faces, 2)
        if (kind := kind_of(one, other))
    ]


def by_place(faces: tuple[Face, ...]) -> list[Face]:
    sure = [face for face in faces if face.score >= LEAST_FACE_SCORE]
    return sorted(sure, key=lambda face: face.box[0])


def described(client: grpc.InferenceServerClient, photograph: FacePhotograph, face: Face) -> np.ndarray:
    tensor = grpc.InferInput("face", [1, SIDE, SIDE, 3], "UINT8")
    tensor.set_data_from_numpy(aligned(photograph.path, face.landmarks, SIDE)[None])
    return client.infer("face_embedder", [tensor]).as_numpy("embedding")[0]


def kind_of(one: FacePhotograph, other: FacePhotograph) -> str | None:
    if one.person and other.person:
        return SAME if one.person == other.person else DIFFERENT
    return STRANGERS if one is other else None


def name(photograph: FacePhotograph, number: int) -> str:
    return photograph.name if photograph.person else f"{photograph.name}, face {number} from the left"


def main() -> None:
    print("| pair | | distance |\n|---|---|---:|")
    order = (SAME, DIFFERENT, STRANGERS)
    for pair in sorted(pairs(sys.argv[1]), key=lambda pair: (order.index(pair.kind), pair.distance)):
        print(f"| {pair.first}; {pair.second} | {pair.kind} | {pair.distance:.3f} |")


if __name__ == "__main__":
    main()
