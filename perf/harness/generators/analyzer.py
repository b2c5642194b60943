"""Find NVIDIA's perf_analyzer, and run it.

`pip install perf-analyzer` brings a working binary only where glibc is 2.38 or newer; elsewhere pip takes an
empty package of that name. The binary inside the tritonclient 2.50.0 wheel runs on glibc 2.34. The two
libraries that it misses on a plain system lie, renamed, in the nvidia-pytriton wheel.
"""

import csv
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from export.common.packages import TRITONCLIENT_2_50, cache_dir, extract

__all__ = ["Analyzer", "AnalyzerError", "AnalyzerRun", "NothingAnsweredError", "find_analyzer", "read_report"]

MEMBER = "tritonclient-2.50.0.data/data/bin/perf_analyzer"
RENAMED_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


class AnalyzerError(RuntimeError):
    """perf_analyzer is not there, does not run, or could not measure; the message says why."""


class NothingAnsweredError(AnalyzerError):
    """Nothing was answered within one window of the measurement: a longer one measures it."""


@dataclass(frozen=True)
class AnalyzerRun:
    """What one run of perf_analyzer told: the rows of its CSV report, and what it printed."""

    rows: list[dict[str, str]]
    printed: str


# What it says when no answer came within a window, or the model's statistics did not change
NOTHING_ANSWERED = (
    "No valid requests recorded within time interval",
    "failed to find the requested model version",
)
NOTHING_HINT = "Nothing was answered within one window of the measurement: give it more --seconds."


@dataclass(frozen=True)
class Analyzer:
    """A perf_analyzer that runs here."""

    binary: Path
    environment: dict[str, str]

    def version(self) -> str:
        """For people: the wheel it is from (that binary tells none), or what it tells itself."""
        if self.binary.is_relative_to(cache_dir()):
            return "perf_analyzer of tritonclient 2.50.0"
        command = [str(self.binary), "--version"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return " ".join((done.stdout + done.stderr).split())

    def run(self, arguments: list[str], report: Path, timeout_s: float = 600) -> AnalyzerRun:
        """Run it with `arguments`. Raises `AnalyzerError` if it fails or has not ended in time (seconds), and
        `NothingAnsweredError` if its windows are too short for this machine."""
        command = [str(self.binary), *arguments, "-f", str(report)]
        try:
            done = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise AnalyzerError(
                f"perf_analyzer had not ended after {timeout_s:.0f} s; is the server still answering?"
            ) from None
        if done.returncode or not report.is_file():
            told = (done.stdout + done.stderr).partition("\nUsage:")[0]  # without its manual
            tail = "\n".join(told.strip().splitlines()[-15:])
            said = f"perf_analyzer ended with status {done.returncode}:\n{tail}"
            if any(words in told for words in NOTHING_ANSWERED):
                raise NothingAnsweredError(f"{said}\n{NOTHING_HINT}")
            raise AnalyzerError(said)
        return AnalyzerRun(read_report(report), done.stdout)


def read_report(report: Path) -> list[dict[str, str]]:
    """The rows of a perf_analyzer CSV file, one a load level, by column name."""
    with report.open(newline="") as file:
        return list(csv.DictReader(file))


def find_analyzer() -> Analyzer:
    """perf_analyzer from PATH if it runs, else the one in the tritonclient 2.50.0 wheel.

    Raises `AnalyzerError` if neither runs, with what the loader said.
    """
    complaints: list[str] = []
    if on_path := shutil.which("perf_analyzer"):
        analyzer = _try(Path(on_path), dict(os.environ), complaints)
        if analyzer:
            return analyzer
    binary = extract(TRITONCLIENT_2_50, MEMBER)
    binary.chmod(0o755)
    folders = [_library_folder(), os.environ.get("LD_LIBRARY_PATH")]
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, filter(None, folders)))}
    analyzer = _try(binary, environment, complaints)
    if analyzer is None:
        raise AnalyzerError(
            "no perf_analyzer runs here: " + "; ".join(complaints) + ". On Debian and Ubuntu "
            "`apt-get install libb64-0d` and `pip install nvidia-cuda-runtime-cu12` bring what it needs; "
            "with glibc 2.38 or newer `pip install perf-analyzer` does"
        )
    return analyzer


def _try(binary: Path, environment: dict[str, str], complaints: list[str]) -> Analyzer | None:
    done = subprocess.run(
        [str(binary), "--version"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return Analyzer(binary, environment)
    complaints.append(f"{binary}: {(done.stderr or done.stdout).strip()}")
    return None


def _library_folder() -> Path | None:
    """A folder in the cache that links the missing libraries under the names the binary asks for."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        return None
    libraries = Path(next(iter(spec.submodule_search_locations))).parent / "nvidia_pytriton.libs"
    folder = cache_dir() / "perf-analyzer-libraries"
    folder.mkdir(parents=True, exist_ok=True)
    for name, pattern in RENAMED_LIBRARIES.items():
        for source in libraries.glob(pattern):
            if not (folder / name).is_symlink() or (folder / name).readlink() != source:
                link = folder / f".{name}.{os.getpid()}"
                link.symlink_to(source)
                link.replace(folder / name)  # at once: another process may be loading it
    return folder
