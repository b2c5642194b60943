"""The descriptors that are committed are those of the .proto files."""

from google.protobuf import descriptor_pb2

from server.tfserving.wire.messages import DESCRIPTORS, descriptors


def test_they_are_what_protoc_makes_of_the_protos():
    made, kept = (
        {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(written).file}
        for written in (descriptors(), DESCRIPTORS.read_bytes())
    )
    assert made.keys() == kept.keys()
    for name in ("serving.proto", "tensorflow.proto"):
        assert made[name] == kept[name], "run `python -m server.tfserving.wire.messages`"
