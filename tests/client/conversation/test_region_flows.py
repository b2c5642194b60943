"""Regions of shared memory: used again, given back, and not forgotten, without a server."""

import os

import pytest

from client import InferenceFailed
from client.conversation.region_flows import CLOSE_PATIENCE_S, given_back
from client.transport.protocol import Call, Pause
from client.transport.shared_memory import Regions


def test_regions_are_used_again_grow_and_leave_nothing_behind():
    regions = Regions()
    small = regions.take(10)
    small.write(b"0123456789")
    regions.give_back(small)
    assert regions.take(20) is small
    regions.give_back(small)
    large = regions.take(small.size_bytes + 1)
    assert large.size_bytes > small.size_bytes
    other = regions.take(1)
    assert other.name != large.name
    large.is_registered = True
    for region in (large, other):
        regions.give_back(region)
    regions.discard_all()
    assert list(regions.forgotten) == [large.name]  # the server was never told of the others
    assert not [name for name in (small.name, large.name, other.name) if _exists(name)]


def test_a_region_that_was_removed_here_can_be_freed():
    regions = Regions()
    region = regions.take(10)
    os.remove(f"/dev/shm/{region.name}")
    regions.discard(region)
    regions.discard_all()
    assert not regions.forgotten


@pytest.mark.parametrize("fails", [InferenceFailed("closed"), GeneratorExit()])
def test_a_region_is_not_forgotten_by_who_could_not_give_it_back(fails):
    """As the client was closed, or a task cancelled, meanwhile."""
    regions = Regions()
    regions.forgotten.append("region")
    giving = given_back(regions)
    assert next(giving) == Call(regions.unregister, {"name": "region"}, CLOSE_PATIENCE_S)
    if isinstance(fails, GeneratorExit):
        giving.close()
    else:
        assert isinstance(giving.throw(fails), Pause)
    assert list(regions.forgotten) == ["region"]


def test_regions_are_waited_for_that_a_request_has():
    regions = Regions()
    regions.under_way.add("request")
    giving = given_back(regions)
    assert isinstance(next(giving), Pause)
    region = regions.take(10)
    region.is_registered = True
    regions.give_back(region)
    regions.under_way.clear()
    assert next(giving).arguments == {"name": region.name}
    with pytest.raises(StopIteration):
        giving.send(None)
    assert not _exists(region.name)


def _exists(region_name):
    try:
        open(f"/dev/shm/{region_name}", "rb").close()
    except FileNotFoundError:
        return False
    return True
