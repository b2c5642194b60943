"""What each release's own schema has, whatever schema the installed tritonclient brings."""

import json

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tritonclient.grpc.model_config_pb2 import DESCRIPTOR, ModelConfig

from export.common.release import RELEASES
from export.lint.reading import config_source, release_schema
from export.lint.reading.config_source import ConfigSyntaxError, read_config, refusals
from export.lint.reading.release_schema import TABLE, came_with, is_known, short_name

TEXTS = {
    "model_metrics": ("24.11", 'name: "m"\nmodel_metrics { }\n'),
    "max_inflight_requests": ("25.11", "ensemble_scheduling <\n  max_inflight_requests: 0\n>\n"),
}


def messages(descriptor, found=None):
    """The messages that a config is made of, by name."""
    found = {} if found is None else found
    if descriptor.full_name not in found:
        found[descriptor.full_name] = descriptor
        for field in descriptor.fields:
            if field.message_type:
                messages(field.message_type, found)
    return found


OLDEST = next(iter(RELEASES))


def test_the_table_is_that_of_the_oldest_release_and_tells_what_came_later():
    table = json.loads(TABLE.read_text())
    assert table["release"] == OLDEST
    assert all(first > OLDEST for first in table["later"].values())
    assert all(change["source"].startswith("https://") for change in table["changes"].values())


def test_every_field_of_the_installed_schema_is_the_releases_or_told_with_its_first_release():
    later = set(json.loads(TABLE.read_text())["later"])
    newer = {key.split(".")[0] for key in later}
    for message in messages(ModelConfig.DESCRIPTOR).values():
        name = short_name(message)
        if message.GetOptions().map_entry or name.startswith("ModelMetrics"):
            continue
        for field in message.fields:
            assert is_known(name, field.name, OLDEST) != (f"{name}.{field.name}" in later), (
                f"{name}.{field.name}"
            )
            for value in field.enum_type.values if field.enum_type else ():
                assert is_known(short_name(field.enum_type), value.name, OLDEST)
    assert newer == {"ModelConfig", "ModelEnsembling"}


@pytest.mark.parametrize("name", TEXTS)
def test_a_field_of_a_later_release_is_refused_by_those_before_it(name):
    first, text = TEXTS[name]
    refused = refusals(read_config(text.encode())[1], RELEASES)
    assert list(refused) == [release for release in RELEASES if release < first]
    for refusal in refused.values():
        assert refusal.line == 2
        assert f"{name} came with release {first}; Triton {', '.join(refused)} know" in str(refusal)


@pytest.mark.parametrize("name", TEXTS)
def test_a_client_that_does_not_know_the_field_says_so(name, monkeypatch):
    monkeypatch.setattr(config_source, "ModelConfig", of_an_old_client())
    first, text = TEXTS[name]
    with pytest.raises(ConfigSyntaxError, match=f"{name} came with release {first}") as told:
        read_config(text.encode())
    assert told.value.line == 2
    assert "-U tritonclient" in told.value.fix


def of_an_old_client():
    """The message of a schema without the later fields."""
    file = descriptor_pb2.FileDescriptorProto()
    DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        kept = [field for field in message.field if came_with(message.name, field.name) is None]
        del message.field[:]
        message.field.extend(kept)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def test_a_field_that_no_table_has_is_an_error_too(monkeypatch):
    known = dict(release_schema._known())
    known["ModelConfig"] -= {"response_cache"}
    known["ModelInstanceGroup.Kind"] -= {"KIND_MODEL"}
    monkeypatch.setattr(release_schema, "_known", lambda: known)
    for text in ("response_cache { }", "instance_group { kind: KIND_MODEL }"):
        refused = refusals(read_config(text.encode())[1], [OLDEST])
        assert f"Triton {OLDEST} knows no" in str(refused[OLDEST])


def test_keys_and_values_of_maps_are_no_fields():
    config, _ = read_config(b'parameters { key: "key" value { string_value: "model_metrics" } }')
    assert config.parameters["key"].string_value == "model_metrics"
