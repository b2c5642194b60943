"""The chart's pods of HAProxy, played on one machine, and the Service that gives each connection to one."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from server.operations.gateway.process import find_haproxy
from tests.conftest import ROOT
from tests.kubernetes.cluster import LOOK_S, NAME
from tests.ports import free_ports
from tests.processes import wait_until


def write_configuration(deployment: dict, folder: Path, models: Path, base: int, resolver: int) -> None:
    """As the init container of the gateway's pods does, by its own command.

    folder: has tls.crt, tls.key and gateway-keys.txt, and takes the configuration.
    """
    given = {
        "python3": sys.executable,
        "--address=0.0.0.0": "--address=127.0.0.1",
        "--resolver=system": f"--resolver=127.0.0.1:{resolver}",
        "--model-repository=/models": f"--model-repository={models}",
    }
    words = deployment["spec"]["template"]["spec"]["initContainers"][-1]["command"]
    words = [re.sub(r"/etc/(haproxy|tls|keys)", str(folder), given.get(word, word)) for word in words]
    servers = f"={NAME}:{base}:{base + 1}:{base + 3}"
    words = [re.sub(r"=[\w.-]+:8000:8001:8003$", servers, word) for word in words]
    ports = free_ports("gateway", "metrics")
    words += [f"--gateway-port={ports['gateway']}", f"--gateway-metrics-port={ports['metrics']}"]
    subprocess.run(words, cwd=ROOT, check=True)
    config = folder / "haproxy.cfg"
    text = config.read_text().replace("socket /tmp/", f"socket {folder}/")  # one machine has one /tmp
    config.write_text(text)
    (folder / "port").write_text(str(ports["gateway"]))


class GatewayPod:
    """HAProxy of the chart, with the configuration that its init container writes to a folder of its own."""

    def __init__(self, deployment: dict, secrets: Path, folder: Path, models: Path, base: int, resolver: int):
        shutil.copytree(secrets, folder)
        write_configuration(deployment, folder, models, base, resolver)
        self.port = int((folder / "port").read_text())
        self._spec = deployment["spec"]["template"]["spec"]
        (self._container,) = self._spec["containers"]
        _, *words = self._container["command"]
        command = [str(find_haproxy()), *(word.replace("/etc/haproxy", str(folder)) for word in words)]
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        probe = self._container["startupProbe"]["httpGet"]
        assert self._container["readinessProbe"]["tcpSocket"]["port"] == probe["port"] == "https"
        wait_until(lambda: self._answers(probe["path"]))

    def _answers(self, path: str) -> bool:
        context = ssl._create_unverified_context()  # the kubelet does not verify either
        with contextlib.suppress(OSError):
            url = f"https://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                return answer.status == 200
        return False

    def terminate(self) -> bool:
        """Hook, SIGTERM, SIGKILL; whether it ended before the last. The Service has let go of it already."""
        deadline = time.monotonic() + self._spec["terminationGracePeriodSeconds"]
        hook = self._container["lifecycle"]["preStop"]["exec"]["command"]
        hook = [re.sub(r"(?<=kill -USR1 )1\b", str(self.process.pid), word) for word in hook]
        running = subprocess.Popen(hook)
        while (
            running.poll() is None and self.process.poll() is None
        ):  # its end ends the hook: they share a pod
            time.sleep(LOOK_S)
        running.kill()
        running.wait()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
            return True
        self.process.kill()
        self.process.wait()
        return False


class Gateways:
    """As many as the chart says, and the Service in front: each connection goes to one of them, and stays."""

    def __init__(self, deployment: dict, secrets: Path, models: Path, base: int, resolver: int):
        self._deployment, self._folder = deployment, secrets.parent
        self._made = 0
        self._make = lambda folder: GatewayPod(deployment, secrets, folder, models, base, resolver)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._turn = 0
        self.pods: list[GatewayPod] = []

    def __enter__(self) -> "Gateways":
        for _ in range(self._deployment["spec"]["replicas"]):
            self.pods.append(self._add())
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._listener.close()
        for pod in self.pods:
            pod.process.terminate()
            pod.process.wait()

    def _add(self) -> GatewayPod:
        self._made += 1
        return self._make(self._folder / f"gateway-{self._made}")

    def update(self) -> None:
        """Replaces one after the other; the new one first."""
        for old in list(self.pods):
            self.pods.append(self._add())
            time.sleep(self._deployment["spec"]["minReadySeconds"])
            self.pods.remove(old)
            assert old.terminate()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self._turn += 1
                server = socket.create_connection(("127.0.0.1", self.pods[self._turn % len(self.pods)].port))
                for one, other in ((client, server), (server, client)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
