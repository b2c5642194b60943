"""Lints a Triton model repository, offline: what Triton refuses, answers wrongly, or silently ignores.

    from export.lint import lint
    for finding in lint("model_repository"):
        print(finding.code, finding.model, finding.message)

`python -m export lint` is the command, docs/reference/lint.md has a section for every rule. Nothing of the
repository is executed and no torch is imported: ONNX graphs, `config.pbtxt` and the release lock are
read, and graphs are loaded into ONNX Runtime sessions in a process of their own. Rules follow what release
24.10 of Triton does by default, auto-completion of configs included.
"""

from export.lint.linter import TARGETS, lint
from export.lint.rules import RULES, Finding, Rule

__all__ = ["RULES", "TARGETS", "Finding", "Rule", "lint"]
