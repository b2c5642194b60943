"""TensorFlow Serving's messages, from `protos/`, in a descriptor pool of their own.

`messages.binpb` holds their descriptors as protoc writes them, so no generated code has to fit the protobuf
that is installed, and a process that imports TensorFlow as well has no two definitions of one name. After a
change of `protos/`, from the root:

    python -m server.tfserving.wire.messages
"""

import functools
import sys
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["message"]

PROTOS = Path(__file__).with_name("protos")
DESCRIPTORS = Path(__file__).with_name("messages.binpb")


@functools.cache
def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    for file in files.file:
        pool.Add(file)
    names = [file.name for file in files.file]
    classes: dict[str, Any] = message_factory.GetMessageClassesForFiles(names, pool)
    return classes


def message(name: str) -> Any:
    """The class of a message, by its full name. Raises `KeyError`."""
    return _classes()[name]


def descriptors() -> bytes:
    """What belongs in `messages.binpb`. Needs grpcio-tools, which tests and developers have."""
    import tempfile

    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "messages.binpb")
        well_known = Path(protoc.__file__).with_name("_proto")
        words = [f"-I{PROTOS}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={written}"]
        if protoc.main(["protoc", *words, "serving.proto"]) != 0:
            raise RuntimeError("protoc refused protos/; its message is above")
        return written.read_bytes()


if __name__ == "__main__":
    DESCRIPTORS.write_bytes(descriptors())
    sys.exit(print(f"{DESCRIPTORS} is written"))
