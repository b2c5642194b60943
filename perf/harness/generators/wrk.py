"""wrk, the HTTP load generator: found or fetched, and run on real requests.

One thread of wrk is enough for all that two cores can answer, costs little beside the servers, and treats
all of them alike: the requests are whole HTTP messages that Python has written before.
"""

import ctypes.util
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.common.packages import alone, cache_dir
from perf.harness.errors import PerfError

__all__ = ["Post", "Wrk", "find_wrk"]

PACKAGES = ("wrk", "libluajit2-5.1-2")  # Debian's names; wrk is linked with LuaJIT
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
TIMEOUT_S = 30  # of one request; wrk's own 2 s would count slow answers as lost
RESULT_MARK = "wrk-result "

# Requests are stored one after the other, each after its length and a newline.
SCRIPT = """
local requests, position = {}, 0
function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  while true do
    local length = file:read("*n")
    if not length then break end
    file:read(1)
    requests[#requests + 1] = file:read(length)
  end
  file:close()
end
function request()
  position = position % #requests + 1
  return requests[position]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '%s{"requests": %d, "seconds": %f, "p50_ms": %f, "p90_ms": %f, "p99_ms": %f, "max_ms": %f, ' ..
    '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\\n',
    "MARK", summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    e.connect, e.read, e.write, e.status, e.timeout))
end
""".replace("MARK", RESULT_MARK)
ERRORS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class Post:
    """One POST: its path, headers without Host and Content-Length, and body."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def message(self, host: str) -> bytes:
        """The HTTP/1.1 message; connections stay open by default."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Wrk:
    """A wrk that runs here; `libraries` is where its LuaJIT lies if the system has none."""

    binary: Path
    libraries: Path | None = None

    def version(self) -> str:
        """What it tells itself, up to the copyright, for people. Raises `OSError` if it cannot be run."""
        return self._call(["-v"]).stdout.split(" Copyright")[0].strip()

    def run(self, host: str, requests: list[Post], connections: int, seconds: float) -> dict[str, Any]:
        """Post the requests in turn, on so many connections at once, to "address:port".

        The answer: rate, requests/s; p50_ms, p90_ms, p99_ms, max_ms; requests; seconds. Raises `PerfError`
        if wrk fails, or if any request did: a rate of errors is no rate.
        """
        with tempfile.TemporaryDirectory() as scratch:
            script, file = Path(scratch) / "requests.lua", Path(scratch) / "requests"
            script.write_text(SCRIPT)
            messages = [request.message(host) for request in requests]
            file.write_bytes(b"".join(b"%d\n%b" % (len(message), message) for message in messages))
            command = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", f"--timeout={TIMEOUT_S}s"]
            done = self._call([*command, f"-s{script}", f"http://{host}", "--", str(file)])
        told = [line for line in done.stdout.splitlines() if line.startswith(RESULT_MARK)]
        if done.returncode or not told:
            raise PerfError(f"wrk failed ({done.returncode}): {(done.stdout + done.stderr).strip()}")
        level = json.loads(told[0].removeprefix(RESULT_MARK))
        failed = {name: level.pop(name) for name in ERRORS}
        if any(failed.values()) or not level["requests"]:
            counts = ", ".join(f"{name} {count}" for name, count in failed.items() if count) or "no answers"
            raise PerfError(f"{level['requests']} requests on {connections} connections had errors: {counts}")
        return {"rate": level["requests"] / level["seconds"], **level}

    def _call(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        variables = dict(os.environ)
        if self.libraries:
            variables["LD_LIBRARY_PATH"] = str(self.libraries)
        return subprocess.run(
            [str(self.binary), *arguments], capture_output=True, text=True, check=False, env=variables
        )


def find_wrk() -> Wrk:
    """wrk of PATH, of the cache, or out of Debian's package. Raises `PerfError` that says how to get one."""
    if found := shutil.which("wrk"):
        return Wrk(Path(found))
    folder = cache_dir() / "wrk"
    wrk = Wrk(folder / "usr" / "bin" / "wrk", folder / LIBRARIES)
    with alone(folder):
        if not wrk.binary.is_file():
            fetch_wrk(folder)
    if "wrk" not in wrk.version():
        raise PerfError(f"{wrk.binary} does not run on this system; {HOW_TO_INSTALL}")
    return wrk


HOW_TO_INSTALL = (
    "install wrk (`apt-get install wrk`, `dnf install wrk`, or https://github.com/wg/wrk) onto PATH"
)


def fetch_wrk(folder: Path) -> None:
    """Unpack Debian's packages into a folder: that takes no root."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise PerfError(f"wrk is not installed, and this is no Debian to fetch it from; {HOW_TO_INSTALL}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    packages = PACKAGES[:1] if ctypes.util.find_library("luajit-5.1") else PACKAGES
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = ["apt-get", "download", *packages]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PerfError(f"`{' '.join(command)}` failed: {done.stderr.strip()}; {HOW_TO_INSTALL}")
        unpacked = Path(scratch) / "unpacked"
        for package in sorted(Path(scratch).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(unpacked)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
