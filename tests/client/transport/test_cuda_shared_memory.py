"""Regions on a GPU, as far as they can be tested without one; with one, see tests/test_gpu.py."""

import sys
import types

import pytest

from client import VisionClient
from client.errors import InvalidInput
from client.transport.cuda_shared_memory import CudaRegions
from client.transport.shared_memory import Regions
from export.common.devices import capability_here


class StandIn(types.ModuleType):
    """tritonclient.utils.cuda_shared_memory, with a GPU of 1 MiB."""

    class CudaSharedMemoryException(Exception):
        pass

    def __init__(self):
        super().__init__("tritonclient.utils.cuda_shared_memory")
        self.held = {}

    def create_shared_memory_region(self, name, size_bytes, device_id):
        if size_bytes > 1 << 20:
            raise self.CudaSharedMemoryException("unable to create") from RuntimeError("out of memory")
        self.held[name] = bytearray(size_bytes)
        return name

    def set_shared_memory_region(self, handle, arrays):
        data = b"".join(array.tobytes() for array in arrays)
        self.held[handle][: len(data)] = data

    def get_raw_handle(self, handle):
        return f"raw {handle}".encode()

    def destroy_shared_memory_region(self, handle):
        del self.held[handle]


@pytest.fixture
def gpu(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.setattr("tritonclient.utils.cuda_shared_memory", stand_in, raising=False)
    return stand_in


def test_a_region_is_registered_as_what_it_is(gpu):
    regions = CudaRegions(device_id=1)
    region = regions.take(100_000)
    region.write(b"pixels")
    method, arguments = region.registration()
    assert method == "register_cuda_shared_memory"
    assert arguments == {
        "name": region.name,
        "raw_handle": f"raw {region.name}".encode(),
        "device_id": 1,
        "byte_size": 131072,
    }
    assert gpu.held[region.name][:6] == b"pixels"
    regions.give_back(region)
    assert regions.take(90_000) is region


def test_a_region_that_failed_is_freed_and_forgotten_on_the_server(gpu):
    regions = CudaRegions()
    region = regions.take(10)
    region.is_registered = True
    regions.discard(region)
    assert not gpu.held
    assert list(regions.forgotten) == [region.name]


def test_each_kind_is_unregistered_as_what_it_is():
    assert CudaRegions.unregister == "unregister_cuda_shared_memory"
    assert Regions.unregister == "unregister_system_shared_memory"


def test_a_gpu_without_room_says_so(gpu):
    with pytest.raises(InvalidInput, match=r"GPU 0 gives no 2,097,152 bytes of shared memory: out of memory"):
        CudaRegions().take(2_000_000)


@pytest.mark.skipif(capability_here() is not None, reason="there is a GPU")
def test_without_a_gpu_it_is_refused_and_not_answered_otherwise(server, tmp_path):
    photograph = tmp_path / "photograph.png"
    photograph.write_bytes(b"not looked at")
    refused = pytest.raises(InvalidInput, match=r"GPU 0 gives no .* bytes of shared memory")
    with VisionClient(server.grpc_url, shared_memory="cuda") as client, refused:
        client.classify(photograph)


def test_another_kind_of_memory_is_refused():
    with pytest.raises(InvalidInput, match="choose 'system' or 'cuda'"):
        VisionClient(shared_memory="gpu")
