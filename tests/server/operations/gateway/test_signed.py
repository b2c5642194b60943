"""A gateway in front of servers that serve only what was signed knows models by that alone."""

import pytest

from export.repository.signing import Signer, new_key
from server.operations.control.conversation import ask as ask_launcher
from server.operations.gateway.config.names import OUTPUTS_MAP, SEQUENCES_MAP
from server.operations.gateway.keys import Grant
from server.operations.gateway.runtime import Runtime
from tests.gateways import Served, Tenants, needs_haproxy
from tests.launcher import CONFIG, write_model
from tests.processes import wait_until

pytestmark = needs_haproxy

STATE = "max_batch_size: 1 sequence_batching { direct { } }\n"


@pytest.mark.slow
def test_its_tables_are_of_what_was_verified(tmp_path):
    models = tmp_path / "models"
    new_key(tmp_path / "key.pem")
    signer = Signer(tmp_path / "key.pem")
    for name in ("good", "changed", "unsigned"):
        folder = write_model(models, name, config=CONFIG.replace("count: 2", "count: 1"))
        if name != "unsigned":
            signer.sign(folder)
    config = models / "changed" / "config.pbtxt"
    config.write_text(STATE + config.read_text())
    tenants = Tenants(tmp_path / "keys", Grant("alice", rate=100_000, concurrency=100))
    key = f"--verify-key={tmp_path / 'key.pub.pem'}"
    with Served(models, tmp_path / "log", tenants, key, servers=1) as served:
        told = ask_launcher(served.port, {"do": "gateway"})
        runtime = Runtime(told["gateway"]["socket"])

        def table(name):
            listed = runtime.ask("show map").splitlines()
            (number,) = (line.split()[0] for line in listed if f"/{name})" in line)
            return {line.split()[1] for line in runtime.ask(f"show map #{number}").splitlines()}

        assert (table(OUTPUTS_MAP), table(SEQUENCES_MAP)) == ({"good/y"}, set())

        good = models / "good" / "config.pbtxt"
        good.write_text(STATE + good.read_text())
        with tenants.file.open("a") as file:
            file.write("carol jwt\n")  # the gateway takes up what changed
        wait_until(lambda: "carol" in table("tenants.map"))
        assert (table(OUTPUTS_MAP), table(SEQUENCES_MAP)) == ({"good/y"}, set())
        assert set(ask_launcher(served.port, {"do": "reload"})["failed"]) == {"good", "changed", "unsigned"}
        assert (table(OUTPUTS_MAP), table(SEQUENCES_MAP)) == ({"good/y"}, set())

        signer.sign(models / "changed")
        assert ask_launcher(served.port, {"do": "reload", "model": "changed"})["reloaded"] == ["changed"]
        assert (table(OUTPUTS_MAP), table(SEQUENCES_MAP)) == ({"good/y", "changed/y"}, {"changed"})
