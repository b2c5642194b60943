"""What the linter finds in a model repository, where it is installed: `python -m export lint`, as a program.

Serving needs neither onnx nor protobuf, so the linter is asked, not imported; NVIDIA's image has none.
"""

import json
import subprocess
import sys
from pathlib import Path

from ...environment.place import INSTALL, PROJECT
from .report import GREEN, RED, YELLOW, Check

__all__ = ["lint_checks"]

TIMEOUT_S = 120.0
LEVELS = {"error": RED, "warning": YELLOW}


def lint_checks(repository: Path, gpu: bool, project: Path = PROJECT) -> list[Check]:
    """A check for each error and warning; one that is green where there are none."""
    if not (project / "export" / "lint").is_dir() or not repository.is_dir():
        return []
    command = [sys.executable, "-m", "export", "lint", "--json", f"--target={'any' if gpu else 'cpu'}"]
    try:
        done = subprocess.run(
            [*command, str(repository.resolve())],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        findings = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        last = done.stderr.strip().splitlines()[-1:] if isinstance(error, ValueError) else [str(error)]
        return [Check("lint", YELLOW, f"the linter does not run: {' '.join(last)[:200]}", INSTALL)]
    checks = [
        Check(
            f"lint {finding['model']}".rstrip(),
            LEVELS[finding["severity"]],
            f"{finding['code']}: {finding['message']}",
            finding["fix"],
        )
        for finding in findings
        if finding["severity"] in LEVELS
    ]
    return checks or [Check("lint", GREEN, "no traps in the model repository")]
