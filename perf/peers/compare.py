"""The same job behind tritonserver and behind what people would pick instead, under the same load.

    python -m perf compare --quick
    python -m perf compare --jobs jpeg --peers fastapi,litserve --rounds 5 --output perf/results/peers.json

FastAPI + ONNX Runtime, LitServe, BentoML, MLServer and Ray Serve, each in a virtual environment of its own
that is made at the first use, and ONNX Runtime in-process as the limit. wrk posts real photographs, sequences
or lines of text to all of them alike. Each server is started anew in every round, alone on the machine, and
must give the right answers before it is measured. docs/why/peers.md explains the jobs and how each is set.
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.harness.commands import listed, say
from perf.harness.errors import PerfError
from perf.harness.generators.wrk import Wrk, find_wrk
from perf.harness.machine import cpu_seconds_by_program
from perf.harness.raw import RawResult, load, output_path, reading, record, save
from perf.harness.serving import newest_graph
from perf.harness.venvs import NotInstallable
from perf.peers.jobs import JOBS, ComparedJob, opened, same
from perf.peers.limits import LIMITS, limit, right_answers
from perf.peers.servers import PEERS, Layout, Ours, Peer, post
from perf.summaries.compare import ratios, tables

CONCURRENCIES = (1, 8, 32)
WARM_UP_SECONDS, WARM_UP_CONNECTIONS = 1, 8
LOOK_S, IDLE_CORES, IDLE_WITHIN_S = 0.2, 0.2, 10  # at rest servers use 0.05 cores
CHECKED = 8  # answers of each started server
TOLD_PACKAGES = (
    "bentoml",
    "fastapi",
    "litserve",
    "mlserver",
    "numpy",
    "onnxruntime",
    "pillow",
    "ray",
    "torch",
    "uvicorn",
)
Server = Ours | Peer
QUICK_JOBS = ("jpeg", "gru", "text")

# Further settings of ours, by the name that --ours takes
OURS = {
    "2x1": Ours(),
    "1x2": Ours(Layout(1, 2)),
    "int8": Ours(cnn="efficientnet_lite0_int8"),
    "ensemble": Ours(ensemble=True),
    "2-http-threads": Ours(http_threads=2),
    "16-http-threads": Ours(http_threads=16),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    add = parser.add_argument
    add("--quick", action="store_true", help="ours, FastAPI and in-process, one round: about four minutes")
    add("--jobs", type=listed(str, JOBS), metavar="A,B", help=f"of {', '.join(JOBS)} (default: all)")
    add(
        "--peers",
        type=listed(str, PEERS),
        metavar="A,B",
        help=f"of {', '.join(PEERS)}, or none (default: all)",
    )
    add(
        "--layouts",
        type=listed(str, ("2x1", "1x2")),
        default=("2x1", "1x2"),
        metavar="A,B",
        help="of peers: workers x threads of each (default: 2x1,1x2)",
    )
    add("--ours", type=listed(str, OURS), default=("2x1",), metavar="A,B", help=f"of {', '.join(OURS)}")
    add("--concurrency", type=listed(int), default=CONCURRENCIES, metavar="A,B", help="default: 1,8,32")
    add("--rounds", type=int, help="each with every server (default: 3; 1 with --quick)")
    add("--seconds", type=int, default=4, help="of each level of load (default: %(default)s)")
    add("--output", type=Path, metavar="FILE", help="of the raw results (default: a new one in perf/out)")
    add("--append", action="store_true", help="add to what --output holds already")
    add("--json", action="store_true", help="print the raw results instead of the table")
    add("--install", action="store_true", help="make the environments of the peers, and end")
    add("--show", type=Path, metavar="FILE", help="print the table of raw results, and measure nothing")


def run(arguments: argparse.Namespace) -> int:
    """Measure the jobs; or only make environments (--install), or print a result (--show).

    1 if a peer failed, or with --install is not installable; else 0. Raises `PerfError` if ours fails.
    """
    if arguments.show:
        return tell(load(arguments.show, "compare"), arguments.json, arguments.show)
    jobs = arguments.jobs or (QUICK_JOBS if arguments.quick else JOBS)
    ours = settings_for(jobs, arguments.ours)
    names = arguments.peers
    if names is None:
        names = ("fastapi",) if arguments.quick else tuple(PEERS)
    versions, missing = installed(names)
    if arguments.install:
        return 1 if missing else 0
    output = output_path(arguments.output, "compare")
    raw = load(output, "compare") if arguments.append and output.exists() else record("compare", runs=[])
    with reading(output):  # before minutes are spent on what could not be added
        ratios(raw)
    wrk = find_wrk()
    peers = [
        dataclasses.replace(PEERS[name], layout=Layout(*map(int, layout.split("x"))))
        for name in versions
        for layout in arguments.layouts
    ]
    failed = False
    for name in jobs:
        servers: list[Server] = [*ours[name], *peers]
        with opened(name) as job:
            one = record(
                "compare-job",
                job=name,
                wrk=wrk.version(),
                seconds=arguments.seconds,
                versions=versions,
                not_installable=missing,
                commands={str(server): server.commands() for server in servers},
                rounds=[],
            )
            raw["runs"].append(one.as_json())
            for number in range(arguments.rounds or (1 if arguments.quick else 3)):
                order = servers if number % 2 == 0 else servers[::-1]
                measured = one_round(wrk, job, order, arguments, f"{name}, round {number + 1}")
                one["rounds"].append(measured)
                failed |= any("error" in found for found in measured["servers"].values())
                save(output, raw)  # what was measured stays if the next round fails
    say(f"raw results: {output}")
    return tell(raw, arguments.json, output) or int(failed)


def settings_for(jobs: Sequence[str], asked: Sequence[str]) -> dict[str, list[Ours]]:
    """Those of our settings that change something of a job, by job. Raises `PerfError` if one has none."""
    ours = {job: [OURS[name] for name in asked if OURS[name].fits(job)] for job in jobs}
    for job, found in ours.items():
        left_out = ", ".join(name for name in asked if not OURS[name].fits(job))
        if not found:
            raise PerfError(
                f"--ours {left_out} changes recognize_objects, which the job {job} does not ask: add the "
                f"repository as it is (--ours 2x1,{left_out.replace(' ', '')}), or choose other --jobs"
            )
        if left_out:
            say(f"{job}: without {left_out}, which changes recognize_objects only")
    return ours


def installed(names: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Versions of the peers that can be had, by name, and the reasons why others cannot."""
    versions, missing = {}, {}
    for name in names:
        try:
            found = PEERS[name].versions()
            versions[name] = {package: found[package] for package in TOLD_PACKAGES if package in found}
        except NotInstallable as error:
            missing[name] = str(error)
            say(f"{PEERS[name].title} is not installable here: {error}")
    return versions, missing


def one_round(
    wrk: Wrk, job: ComparedJob, servers: Sequence[Server], arguments: argparse.Namespace, title: str
) -> dict[str, Any]:
    """Every server and the limits, one after the other. A peer that fails is kept with its error."""
    limits = {name: limit(job, layout, arguments.seconds) for name, layout in LIMITS.items()}
    say(
        f"{title}: in-process " + ", ".join(f"{name} {found['rate']:.0f}/s" for name, found in limits.items())
    )
    measured: dict[str, dict[str, Any]] = {}
    for server in servers:
        try:
            measured[str(server)] = one_server(wrk, job, server, arguments)
        except PerfError as error:
            if isinstance(server, Ours):
                raise
            measured[str(server)] = {"error": str(error)}
            say(f"{title}: {server} failed: {error}")
            continue
        levels = measured[str(server)]["levels"]
        rates = ", ".join(f"{level['rate']:.0f}" for level in levels.values())
        p99 = ", ".join(f"{level['p99_ms']:.1f}" for level in levels.values())
        say(f"{title}: {server} {rates}/s at {', '.join(levels)}; p99 {p99} ms")
    return {"in_process": limits, "servers": measured}


def one_server(wrk: Wrk, job: ComparedJob, server: Server, arguments: argparse.Namespace) -> dict[str, Any]:
    """startup_seconds, and levels: what `Wrk.run` gives at each concurrency, with cores_busy by program.

    Raises `PerfError` if the server does not start, or answers wrongly.
    """
    right = cached_answers(reference(job, server))
    requests = [server.request(job, body) for body in job.bodies]
    start = time.perf_counter()
    with server.running(job) as host:
        startup = time.perf_counter() - start
        check(job, server, host, right)
        wrk.run(host, requests, WARM_UP_CONNECTIONS, WARM_UP_SECONDS)
        levels = {}
        for connections in arguments.concurrency:
            wait_until_idle()
            before, start = cpu_seconds_by_program(os.getpid()), time.perf_counter()
            level = wrk.run(host, requests, connections, arguments.seconds)
            elapsed, after = time.perf_counter() - start, cpu_seconds_by_program(os.getpid())
            level["cores_busy"] = {
                program: round((used - before.get(program, 0)) / elapsed, 3)
                for program, used in after.items()
            }
            levels[str(connections)] = level
    return {"startup_seconds": startup, "levels": levels}


def wait_until_idle() -> None:
    """Returns once the server has worked off what wrk left behind, or after ten seconds.

    wrk ends with its last requests unanswered, and Triton 2.51 computes answers for HTTP clients that have
    gone: the next level would pay for them.
    """
    end = time.monotonic() + IDLE_WITHIN_S
    used = sum(cpu_seconds_by_program(os.getpid()).values())
    while time.monotonic() < end:
        time.sleep(LOOK_S)
        before, used = used, sum(cpu_seconds_by_program(os.getpid()).values())
        if used - before < IDLE_CORES * LOOK_S:
            return


_answers: dict[tuple[str, Path], list[Any]] = {}


def cached_answers(job: ComparedJob) -> list[Any]:
    """In-process answers take seconds, and stay the same from round to round."""
    key = job.name, job.graph
    if key not in _answers:
        _answers[key] = right_answers(job)
    return _answers[key]


def reference(job: ComparedJob, server: Server) -> ComparedJob:
    """The job as its in-process answers are made: we decode in one way only, and may serve another CNN."""
    if isinstance(server, Peer):
        return job
    graph = newest_graph(job.repository / server.cnn) if server.cnn else job.graph
    return dataclasses.replace(job, name=job.kind, graph=graph)


def check(job: ComparedJob, server: Server, host: str, right: list[Any]) -> None:
    """Raises `PerfError` unless the server answers as in-process ONNX Runtime does."""
    for number, body in enumerate(job.bodies[:CHECKED]):
        status, content, headers = post(host, server.request(job, body))
        if status != 200:
            raise PerfError(f"{server} answered {status}: {content[:300]!r}")
        found = server.answer(job, content, headers)
        if not same(job, found, right[number]):
            raise PerfError(f"{server} answered {found} to input {number}; in-process it is {right[number]}")


def tell(raw: RawResult, as_json: bool, path: Path) -> int:
    """Print a result as JSON or as tables; returns 0. Raises `RawError` if it lacks what belongs there."""
    if as_json:
        print(json.dumps(raw.as_json()))
        return 0
    with reading(path):
        print_tables(raw)
    return 0


def print_tables(raw: RawResult) -> None:
    """For people: answers/s (p99 in ms), our shares of the best peer and of the limit, and who is missing."""
    job = None
    for row in tables(raw):
        if row["job"] != job:
            job = row["job"]
            print(f"\n{job}: answers/s (p99 in ms) at concurrency; medians of rounds")
        cells = [f"{c:>4}: {rate:8.1f} ({p99:7.1f})" for c, (rate, p99) in row["levels"].items()]
        print(f"  {row['server']:<42}{'  '.join(cells)}{'  ' + row['note'] if row['note'] else ''}")
    print("\nours against the best peer, and against the limit; p99 against that peer's")
    for row in ratios(raw):
        print(
            f"  {row['job']:<17}{row['ours']:<30}concurrency {row['concurrency']:>2}: "
            f"{row['of_peer']:5.2f} of {row['peer']}, p99 {row['p99_of_peer']:5.2f}; "
            f"{row['of_limit']:5.2f} of {row['limit']}"
        )
    for one in raw["runs"]:
        for name, reason in one["not_installable"].items():
            print(f"{PEERS[name].title} could not be installed: {reason.splitlines()[-1]}")
