"""The parts of a cluster that decide who is asked, played on one machine with the real launcher.

What a pod runs, its probes, hooks and times, and how a Deployment is updated are read from the rendered
chart. Each pod has an address of its own (127.0.0.11, ...) and the same ports as all others; a
name server plays the headless Service, so the gateway finds pods as it would there, up to five seconds late.

    Kubelet       probes, restarts, and the end of a pod: hook, SIGTERM, and SIGKILL when its grace is over
    Deployment    scale, rolling update, and another pod for one whose node is lost
    NameServer    addresses of the pods that are ready and not about to go

`gateways` has the pods in front of them.
"""

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT
from tests.processes import descendants, wait_until

FIRST_ADDRESS = 11  # 127.0.0.11
NAME = "servers.test"
STALE_S = 5.0  # CoreDNS keeps an answer for as long
NODE_LOST_S = 40.0  # until the control plane takes a node that is silent for lost
LOOK_S = 0.1


class NameServer:
    """Answers for `NAME`, over UDP, with what `addresses()` was up to `STALE_S` ago."""

    def __init__(self, addresses: Callable[[], list[str]]):
        self._addresses = addresses
        self._kept: tuple[float, list[str]] = (float("-inf"), [])
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> "NameServer":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                query, client = self._socket.recvfrom(4096)
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        asked, found = self._kept
        if time.monotonic() - asked > STALE_S:
            found = self._addresses()
            self._kept = (time.monotonic(), found)
        end = query.index(b"\0", 12) + 5  # of the question: name, type, class
        (kind,) = struct.unpack(">H", query[end - 4 : end - 2])
        found = found if kind == 1 else []  # A
        header = query[:2] + struct.pack(">HHHHH", 0x8580, 1, len(found), 0, 0)
        records = (
            struct.pack(">HHHIH", 0xC00C, 1, 1, int(STALE_S), 4) + socket.inet_aton(one) for one in found
        )
        return header + query[12:end] + b"".join(records)


class Pod:
    """A server of the chart, at an address of its own. ready: as its probe says; since: since when."""

    def __init__(self, number: int, spec: dict, models: Path, base: int, folder: Path):
        self.address = f"127.0.0.{FIRST_ADDRESS + number}"
        self.name = f"pod-{number}"
        self._spec, (self._container,) = spec, spec["containers"]
        self._ports = {one["name"]: base + one["containerPort"] - 8000 for one in self._container["ports"]}
        given = {"--model-repository=/models": f"--model-repository={models}"}
        given |= {"--address=0.0.0.0": f"--address={self.address}", "python3": sys.executable}
        self._command = [given.get(word, word) for word in self._container["command"]]
        self._command += [f"--{name}-port={port}" for name, port in self._ports.items()]
        self.log = folder / f"{self.name}.log"
        self._process: subprocess.Popen | None = None
        self.ready, self.since, self.terminating, self.gone, self.lost = False, 0.0, False, False, False
        self.restarts = self.killed = 0
        self.events: list[str] = []

    @property
    def pid(self) -> int:
        """Of its process 1."""
        assert self._process
        return self._process.pid

    # --- what the kubelet does

    def run(self) -> None:
        """Until the pod has gone: start, probe, start again."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self.terminating:
            with open(self.log, "ab") as log:
                self._process = subprocess.Popen(
                    self._command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            self._event("started")
            self._watch(self._process)
            self._set_ready(False)
            if self.lost or self.terminating:
                return
            self.restarts += 1
            self._event("ended by itself")
            time.sleep(10)  # the first step of CrashLoopBackOff

    def _watch(self, process: subprocess.Popen) -> None:
        """Until the process ends: the startup probe, then the others."""
        failures = dict.fromkeys(("startup", "readiness", "liveness"), 0)
        due = dict.fromkeys(failures, time.monotonic())
        started = False
        while process.poll() is None:
            kinds = (
                ("readiness",) if self.terminating else ("readiness", "liveness") if started else ("startup",)
            )
            for kind in kinds:
                probe = self._container[f"{kind}Probe"]
                if time.monotonic() < due[kind]:
                    continue
                due[kind] = time.monotonic() + probe["periodSeconds"]
                good = self._ask(probe)
                failures[kind] = 0 if good else failures[kind] + 1
                failed = failures[kind] >= probe["failureThreshold"]
                if kind == "startup" and good:
                    started = True
                    self._event("has started")
                elif kind == "readiness" and (good or failed):
                    self._set_ready(good)
                elif failed:
                    self._event(f"is killed: its {kind} probe fails")
                    self._end(process)
                    return
            time.sleep(LOOK_S)

    def _ask(self, probe: dict) -> bool:
        where = probe["httpGet"]
        url = f"http://{self.address}:{self._ports[where['port']]}{where['path']}"
        try:
            with urllib.request.urlopen(url, timeout=probe.get("timeoutSeconds", 1)) as answer:
                return answer.status < 400
        except (OSError, urllib.error.HTTPError):
            return False

    def _set_ready(self, ready: bool) -> None:
        if ready != self.ready:
            self.ready, self.since = ready, time.monotonic()
            self._event("ready" if ready else "not ready")

    def terminate(self) -> None:
        """Taken out of the Service at once; hook, SIGTERM and SIGKILL follow in a thread."""
        self.terminating = True
        self._event("is terminated")
        threading.Thread(target=self._end_in_order, daemon=True).start()

    def _end_in_order(self) -> None:
        if self._process and self._process.poll() is None:
            self._end(self._process)
        self.gone = True
        self._event("gone")

    def _end(self, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + self._spec["terminationGracePeriodSeconds"]
        hook = self._container["lifecycle"]["preStop"]["exec"]["command"]
        hook = [re.sub(r"(?<=kill -USR1 )1\b", str(process.pid), word) for word in hook]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(hook, check=True, timeout=deadline - time.monotonic())
        self._event("SIGTERM")
        process.terminate()
        try:
            process.wait(deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            self.killed += 1
            self._event("SIGKILL")
            self.kill()

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        process = self._process
        if process and process.poll() is None:
            for pid in (process.pid, *descendants(process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def lose(self) -> None:
        """Its node is gone: nobody runs it again, and it is in the Service until that is known."""
        self.lost = True
        self._event("its node is lost")
        self.kill()

    def _event(self, what: str) -> None:
        self.events.append(what)
        print(f"{time.strftime('%H:%M:%S')} {self.name} {what}", flush=True)


class Deployment:
    """Pods of the chart's Deployment of servers, held at a number; entered with none."""

    def __init__(self, deployment: dict, models: Path, base: int, folder: Path):
        self._spec = deployment["spec"]
        self._make = lambda number: Pod(number, self._spec["template"]["spec"], models, base, folder)
        self.pods: list[Pod] = []
        self._made = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "Deployment":
        return self

    def __exit__(self, *_) -> None:
        for pod in self.pods:
            if not (pod.terminating or pod.lost):
                pod.terminate()
        wait_until(lambda: all(pod.gone or pod.lost for pod in self.pods))

    def addresses(self) -> list[str]:
        """Of the headless Service. A lost node's pods count until the control plane knows."""
        with self._lock:
            pods = list(self.pods)
        return [
            pod.address
            for pod in pods
            if not pod.terminating
            and (pod.ready if not pod.lost else time.monotonic() - pod.since < NODE_LOST_S)
        ]

    def _add(self) -> Pod:
        with self._lock:
            pod = self._make(self._made)
            self._made += 1
            self.pods.append(pod)
        pod.run()
        return pod

    def _here(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.terminating and not pod.lost]

    def _available(self, pod: Pod) -> bool:
        return pod.ready and time.monotonic() - pod.since >= self._spec["minReadySeconds"]

    def scale(self, count: int) -> None:
        """Returns when so many are available, and those that were too many have gone."""
        while len(self._here()) < count:
            self._add()
        surplus = self._here()[count:]
        for pod in surplus:
            pod.terminate()
        wait_until(lambda: all(self._available(pod) for pod in self._here()))
        wait_until(lambda: all(pod.gone for pod in surplus))

    def update(self) -> None:
        """Replaces every pod within maxSurge and maxUnavailable."""
        old = self._here()
        desired = len(old)
        allowed = self._spec["strategy"]["rollingUpdate"]
        waiting = list(old)
        while waiting or not all(self._available(pod) for pod in self._here()):
            here = self._here()
            new = [pod for pod in here if pod not in old]
            if len(here) < desired + allowed["maxSurge"] and len(new) < desired:
                self._add()
            available = sum(map(self._available, here))
            if waiting and available > desired - allowed["maxUnavailable"]:
                waiting.pop(0).terminate()
            time.sleep(LOOK_S)
        wait_until(lambda: all(pod.gone for pod in old))

    def lose_a_node(self) -> None:
        """Of the first pod. Returns when another is available in its place."""
        pod = self._here()[0]
        pod.since = time.monotonic()
        pod.lose()
        wait_until(lambda: time.monotonic() - pod.since >= NODE_LOST_S)
        self._add()
        wait_until(lambda: all(self._available(pod) for pod in self._here()))
