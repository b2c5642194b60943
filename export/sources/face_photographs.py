"""Photographs of people: for parity of detect_faces, for comparing faces, and to show.

Six group photographs of npm's face-api, whose people have no names, where npm or the download is there; six
photographs of two people whose names are known, and one more, of face_recognition's source; scikit-image's
astronaut. Test data: nobody else is to be identified with it.
"""

from dataclasses import dataclass
from pathlib import Path

from export.common.packages import (
    FACE_API,
    FACE_RECOGNITION,
    SCIKIT_IMAGE,
    can_be_asked,
    extract,
    is_there,
)

__all__ = ["FacePhotograph", "face_photographs", "group_photographs"]

GROUPS = [f"sample{number}.jpg" for number in range(1, 7)]
PEOPLE = {
    "biden.jpg": "biden",
    "obama.jpg": "obama",
    "obama2.jpg": "obama",
    "obama3.jpg": "obama",
    "obama_partial_face.jpg": "obama",
    "obama_partial_face2.jpg": "obama",
    "32bit.png": None,
}


@dataclass(frozen=True)
class FacePhotograph:
    """One encoded photograph; `person` says who is in it, where that is known and nobody else is."""

    name: str
    path: Path
    person: str | None


def group_photographs() -> list[FacePhotograph]:
    """Those of npm; none where neither npm nor the downloaded package is there."""
    if not (is_there(FACE_API) or can_be_asked(FACE_API)):
        return []
    return [FacePhotograph(name, extract(FACE_API, f"package/demo/{name}"), None) for name in GROUPS]


def face_photographs() -> list[FacePhotograph]:
    """All of them, groups first. Downloads at the first call; raises `PackageError` if it cannot."""
    folder = f"{FACE_RECOGNITION.filename.removesuffix('.tar.gz')}/tests/test_images"
    people = [
        FacePhotograph(name, extract(FACE_RECOGNITION, f"{folder}/{name}"), person)
        for name, person in PEOPLE.items()
    ]
    astronaut = extract(SCIKIT_IMAGE, "skimage/data/astronaut.png")
    return [*group_photographs(), *people, FacePhotograph("astronaut.png", astronaut, "astronaut")]
