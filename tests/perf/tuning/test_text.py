"""The policy goes into config.pbtxt, and nothing else does."""

import pytest

from export.common.errors import ConfigError
from export.repository.configs.contract import contract_of, parse_config
from perf.harness.errors import PerfError
from perf.tuning.policy import Batching, Group, Policy, apply, policy_of
from perf.tuning.text import difference, edited_text, new_findings, policy_text, write_config
from tests.conftest import ROOT
from tests.graphs import publish
from tests.perf.tuning.double import CONFIG, DOUBLE

HALVES = Policy((Group(1, "lower_cores"), Group(1, "upper_cores")), 1, Batching((2, 8, 32), 500))


ONE = Policy((Group(1),), 2, Batching())


# Config texts as people write them, beside the committed ones
LAYOUTS = {
    "one line": 'name: "m" max_batch_size: 32 backend: "onnxruntime" dynamic_batching { }\n',
    "lists": """\
max_batch_size: 32
# mine
instance_group [ { count: 3 # three
  kind: KIND_CPU } ]
parameters [ { key: "a" value { string_value: "b" } },
             { key: "intra_op_thread_count" value { string_value: "4" } } ]""",
    "sizes one by one": """\
max_batch_size: 32
dynamic_batching {
  max_queue_delay_microseconds: 100  # short
  # two sizes
  preferred_batch_size: 4
  preferred_batch_size: 8
  default_queue_policy { max_queue_size: 3 }
}
""",
    **{
        name: (ROOT / "model_repository" / name / "config.pbtxt").read_text()
        for name in ("efficientnet_lite0", "text_stream", "read_text")
    },
}


def comments(text):
    return [part.strip() for line in text.splitlines() for part in line.split("#")[1:2]]


@pytest.mark.parametrize("policy", [HALVES, ONE, Policy((Group(4),), 1, Batching((4,), 0), spinning=False)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_policy_goes_into_the_text_and_all_else_stays(layout, policy):
    before = LAYOUTS[layout]
    after = edited_text(before, policy, layout, "by a test")
    old, new = parse_config(before, layout), parse_config(after, layout)
    assert policy_of(new) == policy
    assert contract_of(new) == contract_of(old)
    assert apply(policy_of(old), new) == old  # so nothing but the policy differs
    assert set(comments(before)) < set(comments(after))
    assert after.count("# Tuned: by a test\n") == 1
    assert edited_text(after, policy, layout, "again") == after


def test_the_next_note_takes_the_place_of_the_last():
    once = edited_text(LAYOUTS["efficientnet_lite0"], HALVES, "c", "first")
    twice = edited_text(once, ONE, "c", "second")
    assert "# Tuned: first" not in twice
    assert "# Tuned: second\ndynamic_batching {" in twice


def test_only_lines_of_the_policy_change():
    before = LAYOUTS["efficientnet_lite0"]
    changed = difference(before, edited_text(before, HALVES, "c"), "c").splitlines()[2:]
    assert [line for line in changed if line[0] in "+-"] == [
        "-  preferred_batch_size: [4, 8, 16, 32]",
        "+  preferred_batch_size: [2, 8, 32]",
        "+  max_queue_delay_microseconds: 500",
    ]


def test_a_text_that_is_no_config_is_refused():
    with pytest.raises(ConfigError, match="c cannot be parsed: line 1"):
        edited_text("dynamic_batching { preferred: 4 }", HALVES, "c")


def test_a_policy_can_be_pasted():
    config = parse_config(LAYOUTS["text_stream"], "c")
    pasted = parse_config(policy_text(HALVES, config), "c")
    assert list(pasted.sequence_batching.oldest.preferred_batch_size) == [2, 8, 32]
    assert [group.host_policy for group in pasted.instance_group] == ["lower_cores", "upper_cores"]
    assert not pasted.sequence_batching.state


@pytest.fixture
def repository(tmp_path):
    publish(tmp_path / "repository", "double", DOUBLE, CONFIG)
    return tmp_path / "repository"


def test_what_the_linter_refuses_is_not_written(repository):
    too_large = edited_text(CONFIG, Policy((Group(1),), None, Batching((64,))), "c")
    assert [finding.code for finding in new_findings(repository, "double", too_large)] == ["TV302"]
    with pytest.raises(PerfError, match="TV302"):
        write_config(repository, "double", CONFIG, too_large)
    with pytest.raises(PerfError, match="was changed while it was tuned"):
        write_config(repository, "double", "something else", CONFIG)
    assert (repository / "double" / "config.pbtxt").read_text() == CONFIG
