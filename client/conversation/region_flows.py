"""The steps by which inputs travel in shared memory; as in flows.py, without input or output of their own."""

from __future__ import annotations

from dataclasses import replace

from ..errors import AccessDenied, InferenceFailed, RequestTimeout, ServerUnavailable, VisionError
from ..transport.protocol import Call, Flow, Inference, ModelAnswer, Pause
from ..transport.shared_memory import Region, Regions, serialized
from .retrying import Deadline

__all__ = ["given_back", "infer_through", "opened_regions"]

CLOSE_PATIENCE_S = 5.0
CLOSE_PAUSE_S = 0.05


def opened_regions(shared_memory: bool | str) -> Regions | None:
    """On the GPU for "cuda", else in /dev/shm; None for False. Raises InvalidInput without cuda-python."""
    if shared_memory == "cuda":
        from ..transport.cuda_shared_memory import CudaRegions

        return CudaRegions()
    return Regions() if shared_memory else None


def infer_through(regions: Regions, inference: Inference, url: str) -> Flow[ModelAnswer]:
    """The input in a region of shared memory, which later requests use again."""
    yield from _unregister_forgotten(regions)
    data = serialized(inference.tensor)
    regions.under_way.add(request := object())
    try:
        region = regions.take(len(data))
        return (yield from _inferred(regions, region, data, inference, url))
    finally:
        regions.under_way.discard(request)


def _inferred(
    regions: Regions, region: Region, data: bytes, inference: Inference, url: str
) -> Flow[ModelAnswer]:
    try:
        if not region.is_registered:
            region.is_registered = True  # even if no answer comes
            yield from _registered(region, inference.timeout_s, url)
        region.write(data)
        tensor = replace(inference.tensor, region=region.name, region_bytes=len(data))
        answer: ModelAnswer = yield replace(inference, tensor=tensor)
    except BaseException:  # a cancelled task included
        regions.discard(region)
        raise
    regions.give_back(region)
    return answer


def _registered(region: Region, timeout_s: float, url: str) -> Flow[None]:
    try:
        method, arguments = region.registration()
        yield Call(method, arguments, timeout_s)
    except AccessDenied as refused:
        raise AccessDenied(
            f"{url} takes no shared memory from this client: it is closed there, as in any container. Leave "
            "shared_memory (--shared-memory) off to send the bytes instead, for the same answers; or open it "
            "where the server starts, if clients are trusted with its memory (docs/how-to/deploy.md). "
            f"It said: {refused.message}"
        ) from refused.__cause__


def given_back(regions: Regions) -> Flow[None]:
    """Makes the server let go of all of them, unless it no longer answers.

    What is under way has been given up by now, and soon gives its regions back.
    """
    deadline = Deadline(CLOSE_PATIENCE_S)
    while True:
        may_be_last = not regions.under_way
        regions.discard_all()
        yield from _unregister_forgotten(regions)
        if (may_be_last and not regions.forgotten) or not deadline.allows(CLOSE_PAUSE_S):
            return
        yield Pause(CLOSE_PAUSE_S)


def _unregister_forgotten(regions: Regions) -> Flow[None]:
    """One try each. A region that the server still reads is kept for later."""
    forgotten = regions.forgotten
    for _ in range(len(forgotten)):
        try:
            name = forgotten.popleft()
        except IndexError:  # another thread was quicker
            return
        try:
            yield Call(regions.unregister, {"name": name}, CLOSE_PATIENCE_S)
        except (ServerUnavailable, RequestTimeout):  # a server that is gone holds no regions
            forgotten.clear()
        except InferenceFailed:  # still in use, or the client was closed
            forgotten.append(name)
        except VisionError:  # one that never was registered
            continue
        except BaseException:  # a cancelled task
            forgotten.append(name)
            raise
