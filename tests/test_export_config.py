"""config.pbtxt: the contract is rewritten, people's policy and comments are kept."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.config_text import new_config_text, updated_config_text
from export.contract import contract_of, derive_contract, merge
from export.errors import ConfigError, SpecError
from export.policy import default_policy
from export.spec import ModelSpec, Tensor


def small_spec(classes: int = 10, **changes) -> ModelSpec:
    values = {
        "name": "small",
        "network": object,
        "served": lambda network: network,
        "inputs": (Tensor("image", "uint8", (32, -1, 3)), Tensor("scale", "float16", (1,))),
        "outputs": (Tensor("probabilities", "float32", (classes,), labels=lambda: ["x"] * classes),),
        "max_batch_size": 8,
        "tolerance": 1e-5,
    }
    return ModelSpec(**{**values, **changes})


CONTRACT = derive_contract(small_spec(), "random")

TUNED = """\
# Owned by the camera team.
name: "small"  # as in the dashboards
platform: "onnxruntime_onnx"
max_batch_size: 4;
input [
  { name: "old" data_type: TYPE_FP32 dims: [ 3, -1 ] }, # brackets } in # comments
  { name: "older" data_type: TYPE_FP32 dims: 1 }
]

# Two fit into the card; see the report of May.
instance_group [ { count: 2 kind: KIND_GPU } ]
output { name: 'logits' data_type: TYPE_FP32 dims: [ 5 ] }
dynamic_batching {  # the queue is short on purpose
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 250
}
parameters { key: "weights" value { string_value: "pretrained 123" } }
parameters: < key: "note" value: < string_value: "a \\"} # {\\" 'b" > >
version_policy: { all {} }  # all of them
default_model_filename: "model"
  ".onnx"
"""


def parse(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def test_the_contract_is_the_spec():
    config = parse(new_config_text(small_spec(), CONTRACT))
    assert (config.name, config.backend, config.max_batch_size) == ("small", "onnxruntime", 8)
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("image", parse("input { data_type: TYPE_UINT8 }").input[0].data_type, [32, -1, 3]),
        ("scale", parse("input { data_type: TYPE_FP16 }").input[0].data_type, [1]),
    ]
    assert config.output[0].label_filename == "labels.txt"
    assert config.parameters["weights"].string_value == "random"
    assert contract_of(config) == CONTRACT


def test_the_default_policy_batches_bounds_the_queue_and_warms_up():
    config = parse(new_config_text(small_spec(), CONTRACT))
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds > 0
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8]
    for warmup in config.model_warmup:
        assert set(warmup.inputs) == {"image", "scale"}
        assert all(dim > 0 for tensor in warmup.inputs.values() for dim in tensor.dims)


def test_the_default_policy_is_written_whole():
    text = new_config_text(small_spec(), CONTRACT)
    assert parse(text) == merge(default_policy(small_spec()), CONTRACT)


def test_an_unchanged_contract_leaves_the_file_as_it_is():
    text = new_config_text(small_spec(), CONTRACT).replace("count: 1", "count:    3  # measured")
    text = text.replace("max_batch_size: 8", "max_batch_size   : 8, # fits").replace(
        "# The contract", "# This"
    )
    assert parse(text).max_batch_size == 8
    assert updated_config_text(text, CONTRACT, "config.pbtxt") == text


def test_a_changed_contract_keeps_policy_and_comments():
    updated = updated_config_text(TUNED, CONTRACT, "config.pbtxt")
    assert contract_of(parse(updated)) == CONTRACT
    for kept in (
        "# Owned by the camera team.\n",
        "# as in the dashboards\n",
        "# Two fit into the card; see the report of May.\ninstance_group [ { count: 2 kind: KIND_GPU } ]\n",
        "dynamic_batching {  # the queue is short on purpose\n  preferred_batch_size: [ 4, 8 ]\n",
        """parameters: < key: "note" value: < string_value: "a \\"} # {\\" 'b" > >\n""",
        "version_policy: { all {} }  # all of them\n",
        'default_model_filename: "model"\n  ".onnx"\n',
    ):
        assert kept in updated
    policy_before, policy_after = parse(TUNED), parse(updated)
    assert policy_after.instance_group == policy_before.instance_group
    assert policy_after.default_model_filename == "model.onnx"
    assert policy_after.parameters["note"] == policy_before.parameters["note"]
    assert not policy_after.platform


def test_exports_do_not_pile_up_text():
    other = derive_contract(small_spec(classes=11), "random")
    first = updated_config_text(TUNED, CONTRACT, "config.pbtxt")
    there_and_back = updated_config_text(updated_config_text(first, other, "x"), CONTRACT, "x")
    assert there_and_back == first
    fresh = new_config_text(small_spec(), CONTRACT)
    assert updated_config_text(updated_config_text(fresh, other, "x"), CONTRACT, "x") == fresh


@pytest.mark.parametrize(
    "text", ["", "# nothing yet\n", "dynamic_batching { }", 'name: "small", backend: "x",']
)
def test_other_starting_points(text: str):
    updated = updated_config_text(text, CONTRACT, "config.pbtxt")
    assert contract_of(parse(updated)) == CONTRACT
    assert parse(updated).HasField("dynamic_batching") == ("dynamic_batching" in text)


def test_a_layout_that_cannot_be_kept_is_refused_with_the_text_to_use():
    joined = 'parameters [ { key: "weights" value {} }, { key: "mine" value { string_value: "1" } } ]'
    with pytest.raises(ConfigError, match="policy cannot be kept") as raised:
        updated_config_text(joined, CONTRACT, "config.pbtxt")
    assert 'key: "mine"' in str(raised.value)


def test_a_config_that_cannot_be_parsed_is_named_with_its_line():
    with pytest.raises(ConfigError, match=r"models/config\.pbtxt cannot be parsed: line 2"):
        updated_config_text('name: "a"\nmax_batch: 3\n', CONTRACT, "models/config.pbtxt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "model name"),
        ({"max_batch_size": 0}, "max_batch_size 0"),
        ({"outputs": (Tensor("image", "float32", (1,)),)}, "a name of its own"),
        ({"inputs": ()}, "a name of its own"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes: dict, message: str):
    with pytest.raises(SpecError, match=message):
        small_spec(**changes)


@pytest.mark.parametrize("arguments", [("a b", "uint8", (1,)), ("a", "float8", (1,)), ("a", "uint8", (0,))])
def test_a_tensor_that_triton_cannot_have_is_refused(arguments: tuple):
    with pytest.raises(SpecError, match="tensor"):
        Tensor(*arguments)
