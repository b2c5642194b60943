"""Findings for people, as a table, and for scripts, as JSON."""

import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from export.common.wording import counted
from export.lint.rules import ERROR, NOTE, WARNING, Finding

__all__ = ["print_json", "print_table", "summary"]

COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: "blue"}
NARROW = 100


def print_table(findings: Sequence[Finding], console: Console) -> None:
    """A row for each finding: code, place, fact and fix."""
    if not findings:
        return
    table = Table(show_lines=True, pad_edge=False, expand=console.width < NARROW)
    for heading in ("rule", "where", "what, and how to fix it"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        place = finding.file if finding.line is None else f"{finding.file}:{finding.line}"
        text = Text(finding.message)
        if finding.releases:
            text.append(f"\nonly with {', '.join(finding.releases)}", style="bold")
        text.append(f"\n{finding.fix}", style="green")
        text.append(f"\n{finding.link}", style="dim")
        rule = Text(finding.code, style="bold")
        rule.append(f"\n{finding.severity}", style=COLOURS[finding.severity])
        table.add_row(rule, Text(place), text)
    console.print(table)


def print_json(findings: Sequence[Finding]) -> None:
    """To standard output, a list with an object of `Finding`'s fields for each; [] where there are none."""
    print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))


def summary(findings: Sequence[Finding]) -> str:
    """As in "2 errors, 1 warning, 1 note"; notes only where there are some."""
    if not findings:
        return "no findings"
    counts = {kind: sum(finding.severity == kind for finding in findings) for kind in COLOURS}
    return ", ".join(counted(number, kind) for kind, number in counts.items() if number or kind != NOTE)
