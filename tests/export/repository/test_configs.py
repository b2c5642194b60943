"""config.pbtxt: the contract is rewritten, people's policy and comments are kept."""

import dataclasses

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.errors import ConfigError, SpecError
from export.repository.configs.contract import (
    contract_of,
    derive_contract,
    merge,
    parse_config,
    read_config_text,
)
from export.repository.configs.policy import default_policy
from export.repository.configs.text import new_config_text, updated_config_text
from export.sources.specs.spec import ModelSpec, State, Tensor


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


def test_a_byte_order_mark_is_skipped_where_configs_are_edited(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"\xef\xbb\xbf" + TUNED.replace("\n", "\r\n").encode())
    text = read_config_text(path)
    assert text == TUNED.replace("\n", "\r\n")
    assert parse_config(text, path) == parse(TUNED)


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
    assert [warmup.batch_size for warmup in config.model_warmup] == [1]
    for warmup in config.model_warmup:
        assert set(warmup.inputs) == {"image", "scale"}
        assert all(dim > 0 for tensor in warmup.inputs.values() for dim in tensor.dims)


def test_a_model_of_microseconds_has_an_open_queue():
    """Triton then prefetches batches, and no instance waits for half a second beside a queue."""
    spec = dataclasses.replace(small_spec(), queue_limit=0)
    text = new_config_text(spec, CONTRACT)
    assert parse(text).dynamic_batching.preferred_batch_size
    assert not parse(text).dynamic_batching.HasField("default_queue_policy")
    assert parse(text) == merge(default_policy(spec), CONTRACT)


def test_the_default_policy_is_written_whole():
    spec = dataclasses.replace(small_spec(), cpu_batch_size=2)
    assert parse(new_config_text(spec, CONTRACT)).parameters["cpu_batch_size"].string_value == "2"
    assert parse(new_config_text(spec, CONTRACT)) == merge(default_policy(spec), CONTRACT)
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


def stateful_spec(hidden: int = 4, **changes) -> ModelSpec:
    states = (
        State("column_in", "column_out", "float32", (2, 3)),
        State("gru_in", "gru_out", "float16", (1, hidden)),
    )
    return small_spec(states=states, parameters={"charset": CHARSET}, **changes)


CHARSET = """aé'"\\#{}[]º"""
STATEFUL = derive_contract(stateful_spec(), "random")


def test_states_are_kept_by_triton_from_zeros_on():
    config = parse(new_config_text(stateful_spec(), STATEFUL))
    assert [tensor.name for tensor in config.input] == ["image", "scale"]  # no states among them
    assert [tensor.name for tensor in config.output] == ["probabilities"]
    column, gru = config.sequence_batching.state
    assert (column.input_name, column.output_name, list(column.dims)) == ("column_in", "column_out", [2, 3])
    assert (gru.input_name, gru.output_name, list(gru.dims)) == ("gru_in", "gru_out", [1, 4])
    for state in (column, gru):
        (initial,) = state.initial_state
        assert initial.zero_data
        assert initial.name
        assert (initial.data_type, initial.dims) == (state.data_type, state.dims)


def test_a_model_with_states_has_bounded_sequences_instead_of_dynamic_batching():
    config = parse(new_config_text(stateful_spec(), STATEFUL))
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert config.sequence_batching.WhichOneof("strategy_choice") == "oldest"
    assert config.sequence_batching.oldest.max_candidate_sequences > 0
    assert config.sequence_batching.max_sequence_idle_microseconds > 0
    assert config.parameters["sequence_restart"].string_value == "refuse"
    assert not config.model_warmup  # a warm-up belongs to no sequence
    assert config == merge(default_policy(stateful_spec()), STATEFUL)


def test_parameters_of_the_spec_are_contract_to_the_letter():
    text = new_config_text(stateful_spec(), STATEFUL)
    assert parse(text).parameters["charset"].string_value == CHARSET
    assert contract_of(parse(text), STATEFUL.parameters) == STATEFUL
    updated = updated_config_text(text.replace('string_value: "aé', 'string_value: "bé'), STATEFUL, "x")
    assert updated == text


TUNED_SEQUENCES = """\
# Of the camera team.
sequence_batching {  # one per camera
  # Cameras pause at night.
  max_sequence_idle_microseconds: 900000000
  state [ { input_name: "old_in" output_name: "old_out" data_type: TYPE_FP32 dims: [ 1 ] } ]
  oldest { max_candidate_sequences: 8 }  # as many as there are
}
instance_group { count: 1 }  # all cameras in one batch
"""


@pytest.mark.parametrize(
    "text",
    [
        TUNED_SEQUENCES,
        "sequence_batching: < oldest: < max_candidate_sequences: 8 > >;",
        "sequence_batching { state { input_name: 'a' } state { input_name: 'b' } }",
        "sequence_batching {\n  oldest { }\n  # and the states\n}\n",
        "sequence_batching { # open\n}",
    ],
)
def test_states_are_rewritten_inside_a_policy_that_is_kept(text: str):
    updated = updated_config_text(text, STATEFUL, "config.pbtxt")
    assert parse(updated) == merge(parse(text), STATEFUL)
    assert updated_config_text(updated, STATEFUL, "config.pbtxt") == updated
    other = derive_contract(stateful_spec(hidden=9), "random")
    changed = updated_config_text(updated, other, "config.pbtxt")
    assert list(parse(changed).sequence_batching.state[1].dims) == [1, 9]
    assert updated_config_text(changed, STATEFUL, "config.pbtxt") == updated


def test_comments_around_the_states_are_kept_word_for_word():
    updated = updated_config_text(TUNED_SEQUENCES, STATEFUL, "config.pbtxt")
    for kept in (
        "# Of the camera team.\nsequence_batching {  # one per camera\n  # Cameras pause at night.\n",
        "  oldest { max_candidate_sequences: 8 }  # as many as there are\n}\n",
        "instance_group { count: 1 }  # all cameras in one batch\n",
    ):
        assert kept in updated
    assert "old_in" not in updated
    fresh = new_config_text(stateful_spec(), STATEFUL)
    other = derive_contract(stateful_spec(hidden=9), "random")
    assert updated_config_text(updated_config_text(fresh, other, "x"), STATEFUL, "x") == fresh


def test_states_that_are_no_more_go_away_and_their_policy_stays():
    updated = updated_config_text(TUNED_SEQUENCES, CONTRACT, "config.pbtxt")
    assert not parse(updated).sequence_batching.state
    assert parse(updated).sequence_batching.oldest.max_candidate_sequences == 8


@pytest.mark.parametrize("text", ["", "dynamic_batching { }"])
def test_a_policy_without_sequences_cannot_keep_states(text: str):
    with pytest.raises(ConfigError, match=r"no sequence_batching.*instead of dynamic_batching"):
        updated_config_text(text, STATEFUL, "config.pbtxt")


def swapped_states() -> tuple[State, ...]:
    return State("a_in", "z_out", "float32", (1,)), State("b_in", "y_out", "float32", (1,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": (State("image", "image_out", "float32", (1,)),)}, "a name of its own"),
        ({"states": swapped_states()}, r"a_in -> z_out, b_in -> y_out.*server issue 8586"),
        ({"name": "a/b"}, "model name"),
        ({"max_batch_size": 0}, "max_batch_size 0"),
        ({"cpu_batch_size": 0}, "cpu_batch_size 0; it must lie between 1 and max_batch_size, 8"),
        ({"cpu_batch_size": 9}, "cpu_batch_size 9"),
        ({"outputs": (Tensor("image", "float32", (1,)),)}, "a name of its own"),
        ({"inputs": ()}, "a name of its own"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes: dict, message: str):
    with pytest.raises(SpecError, match=message):
        small_spec(**changes)


def test_a_state_of_any_size_is_refused():
    with pytest.raises(SpecError, match=r"state x_in has dims \(-1, 4\)"):
        State("x_in", "x_out", "float32", (-1, 4))


@pytest.mark.parametrize("arguments", [("a b", "uint8", (1,)), ("a", "float8", (1,)), ("a", "uint8", (0,))])
def test_a_tensor_that_triton_cannot_have_is_refused(arguments: tuple):
    with pytest.raises(SpecError, match="tensor"):
        Tensor(*arguments)
