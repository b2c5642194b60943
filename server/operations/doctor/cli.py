"""The command `doctor`: can models be served here, on a GPU, and what is to be done if not?"""

import argparse
import json
import sys
from pathlib import Path

from ...arguments import add_repository
from .gpu import GpuSurvey, gpu_checks, gpu_usable, survey_gpus
from .host import (
    container_check,
    cuda_of_onnxruntime,
    host_policy_check,
    installation_checks,
    port_checks,
    provider_checks,
    shared_memory_check,
    system_check,
    tfserving_check,
)
from .lint import lint_checks
from .models import Machine, model_checks
from .release import facts_here
from .report import GREEN, RED, YELLOW, Check, worst
from .security import as_lines, as_objects, client_check, security_check, shared_memory_of_clients_check

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "examine", "run"]

DESCRIPTION = """\
Look at this machine and say whether models can be served here, and on its GPUs. green: good; yellow: works,
but less than it could; red: will not work. Yellow and red lines say what to do next. Nothing is changed."""
EPILOG = "exit status: 0 nothing is red, 1 something is, 2 wrong usage"
COLOURS = {GREEN: "\033[32m", YELLOW: "\033[33m", RED: "\033[31m"}
VERDICTS = {
    GREEN: "Everything is well.",
    YELLOW: "It works; the yellow lines say what could be better.",
    RED: "Mend the red lines first.",
}


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code."""
    release = str(facts_here()["release"]["value"])
    if arguments.advisories and not arguments.json:
        print("\n".join(as_lines(release)) or f"nothing is open in {release}")
        return 0
    survey = survey_gpus()
    checks = examine(arguments.model_repository, survey, arguments.require_gpu)
    if arguments.json:
        report = {
            "verdict": worst(checks),
            "checks": [vars(check) for check in checks],
            "gpus": [vars(gpu) for gpu in survey.gpus],
            "release": release,
            "advisories": as_objects(release),
        }
        print(json.dumps(report, indent=1))
    else:
        print(as_text(checks, colour=sys.stdout.isatty()))
    return 1 if worst(checks) == RED else 0


def examine(model_repository: Path, survey: GpuSurvey, require_gpu: bool = False) -> list[Check]:
    """Every check, in the order in which its faults should be mended."""
    facts = facts_here()
    installation, checks = installation_checks(facts)
    pip = installation is not None and installation.kind == "pip"
    in_image = installation is not None and installation.kind == "container"
    on_gpu = gpu_checks(survey, facts, require_gpu, cuda_of_onnxruntime() if pip else None)
    gpu = gpu_usable(on_gpu)
    providers_checked, providers = provider_checks(installation, gpu)
    checks = [system_check(), *checks, *providers_checked, *on_gpu, container_check(gpu)]
    checks += [shared_memory_check(model_repository, in_image), host_policy_check(), *port_checks(in_image)]
    checks.append(tfserving_check())
    checks += [security_check(facts), shared_memory_of_clients_check(facts)]
    if clients := client_check(facts):
        checks.append(clients)
    if installation is not None:
        least = tuple(map(int, facts["tensorrt_compute_capability"]["value"].split(".")))
        plans = any((card.compute_capability or least) >= least for card in survey.gpus)
        checks += model_checks(model_repository, Machine(installation, gpu, providers, plans))
    return checks + lint_checks(model_repository, gpu)


def as_text(checks: list[Check], colour: bool = False) -> str:
    """For people: a line per check, what to do next below it, and the verdict at the end."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        level = f"{check.level:<6}"
        lines.append(f"{COLOURS[check.level]}{level}\033[0m" if colour else level)
        lines[-1] += f"  {check.name:<{width}}  {check.found}"
        if check.next:
            lines.append(f"{'':8}{'':{width}}  -> {check.next}")
    counts = ", ".join(f"{sum(check.level == level for check in checks)} {level}" for level in COLOURS)
    return "\n".join([*lines, "", f"{counts}. {VERDICTS[worst(checks)]}"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `doctor`, with REPOSITORY."""
    add_repository(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--advisories",
        action="store_true",
        help="list the release's open vulnerabilities, and what fixes each",
    )
    parser.add_argument("--require-gpu", action="store_true", help="a machine without a usable GPU is red")
