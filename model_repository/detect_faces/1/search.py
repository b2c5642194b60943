"""MTCNN over several photographs at a time: candidates of all of them share batches of the networks.

A photograph takes 12 bytes a pixel until its faces are found, and up to as much again while the first network
looks at it, which it does at two at a time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from best_boxes import apart
from face_boxes import SAME_SCALE, Candidates, landmarks_of, moved, squared, windows
from face_pixels import Areas, scales, tiles
from stages import Stage

__all__ = ["Photograph", "search"]

T = TypeVar("T")

ALL_SCALES, REFINED, LAST = 0.7, 0.7, 0.7  # overlap from which two candidates are one face
MOST = (10_000, 4_000)  # candidates of a photograph that the second and third network see, the best
SIDES = (24, 48)  # pixels of theirs


@dataclass
class Photograph:
    """What is looked for in one photograph, and then what was found.

    thresholds: of the scores of the three networks
    """

    areas: Areas
    min_face_size: float
    thresholds: tuple[float, float, float]
    found: Candidates = field(default_factory=lambda: Candidates.joined([]))
    landmarks: np.ndarray = field(default_factory=lambda: np.empty((0, 5, 2), np.float32))


async def search(photographs: list[Photograph], tile: int, pnet: Stage, rnet: Stage, onet: Stage) -> None:
    """Finds the faces in all of them. Raises `NetworkError`, and has found none then.

    tile: pixels of a side, the most that the first network takes
    """
    two = asyncio.Semaphore(2)  # while the network looks at one, the pyramid of the next one is made

    async def propose(photograph: Photograph) -> None:
        async with two:
            photograph.found = await _proposed(photograph, pnet, tile)

    await _all([asyncio.create_task(propose(photograph)) for photograph in photographs])
    scores, offsets = await _looked_at(photographs, rnet, MOST[0], SIDES[0])
    for photograph, *said in zip(photographs, scores, offsets, strict=True):
        found = _passing(photograph, photograph.thresholds[1], *said)
        found = found[apart(found.boxes, found.scores, REFINED)]
        photograph.found = _with_boxes(found, squared(moved(found.boxes, found.offsets)))
    scores, offsets, points = await _looked_at(photographs, onet, MOST[1], SIDES[1])
    for photograph, its_points, *said in zip(photographs, points, scores, offsets, strict=True):
        passing = said[0][:, 0] > photograph.thresholds[2]
        landmarks = landmarks_of(photograph.found.boxes, its_points)[passing]
        found = _passing(photograph, photograph.thresholds[2], *said)
        found = _with_boxes(found, moved(found.boxes, found.offsets))
        stays = apart(found.boxes, found.scores, LAST, of_smaller=True)
        photograph.found, photograph.landmarks = found[stays], landmarks[stays]


async def _proposed(photograph: Photograph, pnet: Stage, tile: int) -> Candidates:
    """What the first network makes of one photograph; while it looks at a level, the next ones are made."""
    areas, levels = photograph.areas, []
    for scale in scales(areas.height, areas.width, photograph.min_face_size):
        looking = _windows(areas.level(scale), scale, photograph.thresholds[0], pnet, tile)
        levels.append(asyncio.create_task(looking))
        await asyncio.sleep(0)  # lets it send its first tiles
    found = Candidates.joined(await _all(levels)).best(2 * MOST[0])
    found = found[apart(found.boxes, found.scores, ALL_SCALES)]
    return _with_boxes(found, squared(moved(found.boxes, found.offsets, edge=0)))


async def _windows(level: np.ndarray, scale: float, threshold: float, pnet: Stage, tile: int) -> Candidates:
    """Of one level of the pyramid."""
    height, rows = tiles(level.shape[0], tile)
    width, columns = tiles(level.shape[1], tile)
    places = [(row, column) for row in rows for column in columns]
    scores = np.empty((rows[-1][1], columns[-1][1]), np.float32)
    offsets = np.empty((*scores.shape, 4), np.float32)

    async def look(some: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
        async with pnet.places:
            batch = [level[2 * top :, 2 * left :][:height, :width] for (top, _), (left, _) in some]
            answers = await pnet.run(np.stack(batch))
        for ((top, bottom), (left, right)), its_scores, its_offsets in zip(some, *answers, strict=True):
            scores[top:bottom, left:right] = its_scores[: bottom - top, : right - left]
            offsets[top:bottom, left:right] = its_offsets[: bottom - top, : right - left]

    parts = _parts(len(places), pnet.batch)
    await _all([asyncio.create_task(look(places[part])) for part in parts])
    found = windows(scores, offsets, scale, threshold)
    return found[apart(found.boxes, found.scores, SAME_SCALE)]


async def _looked_at(
    photographs: list[Photograph], stage: Stage, most: int, side: int
) -> list[list[np.ndarray]]:
    """Of each output of a network a list: of each photograph what it says of the candidates there.

    Those that do not touch the photograph, and all but the best, are dropped first.
    """
    for photograph in photographs:
        found = photograph.found
        photograph.found = found[photograph.areas.touched(found.boxes)].best(most)
    ends = np.cumsum([len(photograph.found) for photograph in photographs])
    starts = ends - [len(photograph.found) for photograph in photographs]

    async def look(part: slice) -> list[np.ndarray]:
        """Of a part of all candidates, which may begin in one photograph and end in another."""
        async with stage.places:
            crops = [
                photograph.areas.crops(
                    photograph.found.boxes[max(0, part.start - start) : part.stop - start], side
                )
                for photograph, start, end in zip(photographs, starts, ends, strict=True)
                if start < part.stop and part.start < end
            ]
            return await stage.run(np.concatenate(crops))

    parts = _parts(int(ends[-1]) if len(ends) else 0, stage.batch)
    answers = await _all([asyncio.create_task(look(part)) for part in parts])
    joined = [np.concatenate(outputs) for outputs in zip(stage.nothing(), *answers, strict=True)]
    return [np.split(output, ends)[:-1] for output in joined]


def _passing(photograph: Photograph, threshold: float, scores: np.ndarray, offsets: np.ndarray) -> Candidates:
    """The candidates with a network's scores above the threshold, and its offsets."""
    seen = Candidates(photograph.found.boxes, scores[:, 0], offsets)
    return seen[seen.scores > threshold]


def _with_boxes(found: Candidates, boxes: np.ndarray) -> Candidates:
    return Candidates(boxes, found.scores, found.offsets)


def _parts(count: int, most: int) -> list[slice]:
    return [slice(start, start + most) for start in range(0, count, most)]


async def _all(tasks: list[asyncio.Task[T]]) -> list[T]:
    """What the tasks give; where one fails, the others end first, so that none outlives its request."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
