"""Everything in short."""

from perf import all as everything
from perf.cli import COMMANDS


def test_every_step_of_all_is_a_command_with_a_result():
    names = [step.name for step in everything.STEPS]
    assert len(set(names)) == len(names)
    for step in everything.STEPS:
        assert step.arguments[0] in COMMANDS
    assert sum(step.seconds for step in everything.STEPS) < 20 * 60
