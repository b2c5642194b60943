"""Doing the jobs of `python -m export`: steps are shown as they begin, what came of each is told."""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from export.cli.parts.jobs import ExportJob
from export.common.errors import ExportError, PublishError
from export.sources.specs.explanation import unforeseen

if TYPE_CHECKING:
    from export.pipelines.serving.trial import TrialServer

__all__ = ["run_jobs", "stepping"]


def run_jobs(
    jobs: Sequence[ExportJob],
    where: "contextlib.AbstractContextManager[TrialServer | None]",
    options: argparse.Namespace,
    faulty: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Do all, whatever comes of one of them, and tell as `options` (json, quiet) say. Returns the exit code.

    where: models are tried. faulty: what was refused before, by name.
    """
    results = [{"name": target, "outcome": "failed", "error": error} for target, error in faulty.items()]
    failed = bool(faulty)
    with where as trial:
        for job in jobs:
            try:
                if any(result["name"] == job.base and result["outcome"] == "failed" for result in results):
                    raise PublishError(f"it is made of {job.base}, which was not published either")
                report = _reported(job, trial)
            except Exception as error:  # whatever it is, the other models are done
                failed = True
                text = str(error) if isinstance(error, ExportError) else unforeseen(error, job.name)
                print(f"{job.name} was not published: {text}", file=sys.stderr)
                results.append({"name": job.name, "outcome": "failed", "error": text})
                continue
            results.append(dataclasses.asdict(report))
            if options.quiet and not options.json:
                print(f"{report.name}: version {report.version} {report.outcome}", flush=True)
            elif not options.json:
                job.show(report)
    if options.json:
        print(json.dumps(results, indent=2))
    return 1 if failed else 0


def _reported(job: ExportJob, trial: "TrialServer | None") -> Any:
    """Do it, showing its steps as they begin."""
    with stepping(job.name) as show:
        return job.make(show, trial)


@contextlib.contextmanager
def stepping(name: str) -> Iterator[Callable[[str], None]]:
    """Shows the steps of something on standard error, each until the next, where that is a terminal."""
    status = Console(stderr=True).status(name)

    def show(step: str) -> None:
        if step == "fetching":  # pip draws its own progress bar
            status.stop()
        else:
            status.update(f"{name}: {step}")
            status.start()

    try:
        yield show
    finally:
        status.stop()
