"""The steps by which inputs travel in shared memory; as in flows.py, without input or output of their own."""

from __future__ import annotations

from dataclasses import replace

from ..errors import AccessDenied, RegionInUse, RequestTimeout, ServerUnavailable, VisionError
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
    region = regions.take(len(data))
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
    """Makes the server let go of all of them, unless it no longer answers."""
    regions.discard_all()
    deadline = Deadline(CLOSE_PATIENCE_S)
    yield from _unregister_forgotten(regions)
    while regions.forgotten and deadline.allows(CLOSE_PAUSE_S):
        yield Pause(CLOSE_PAUSE_S)
        yield from _unregister_forgotten(regions)


def _unregister_forgotten(regions: Regions) -> Flow[None]:
    """One try each. A region that the server still reads is kept for later."""
    forgotten = regions.forgotten
    for _ in range(len(forgotten)):
        try:
            name = forgotten.popleft()
            yield Call(regions.unregister, {"name": name}, CLOSE_PATIENCE_S)
        except RegionInUse:
            forgotten.append(name)
        except IndexError:  # another thread was quicker
            return
        except (ServerUnavailable, RequestTimeout):  # a server that is gone holds no regions
            forgotten.clear()
        except VisionError:  # one that never was registered
            continue
