"""What arguments may be, and what commands of commands say of themselves."""

import argparse

import pytest

from server.arguments import port_number, seconds
from server.cli import parse_arguments
from server.operations.rollout.cli import duration, share


@pytest.mark.parametrize("convert", [port_number, seconds, duration, share])
@pytest.mark.parametrize("text", ["http", "-1", "nan", ""])
def test_what_cannot_be_is_named_with_what_can(convert, text):
    """argparse words other errors itself, with the name of the function."""
    with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' is no"):
        convert(text)


@pytest.mark.parametrize(
    "command",
    ["gateway status", "gateway scale", "gateway restart", "gateway render", "keys add", "keys list"],
)
def test_a_command_of_a_command_says_what_it_does_and_how_it_ends(command, capsys):
    with pytest.raises(SystemExit):
        parse_arguments([*command.split(), "--help"])
    _, does, *_, ends = capsys.readouterr().out.rstrip().split("\n\n")
    assert does[0].isupper()
    assert does.endswith(".")
    assert ends.startswith("exit status: 0 done")
