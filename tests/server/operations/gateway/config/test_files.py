"""What the gateway looks models up in."""

import pytest

from export.repository.signing import Signer, new_key
from server.cli import main
from server.errors import ServerError
from server.operations.gateway.config.files import lookups
from server.operations.gateway.config.names import OUTPUTS_MAP, SEQUENCES_MAP
from tests.launcher import CONFIG, write_model

ONE_LINE = "max_batch_size: 1 sequence_batching { direct { } }\n"


def test_several_servers_may_have_several_tables(tmp_path):
    """Classes only where all servers allow them; kept together where one server keeps state."""
    old, new = tmp_path / "old", tmp_path / "new"
    write_model(old, "model")
    write_model(
        new, "model", config=ONE_LINE + CONFIG.replace("TYPE_FP32 dims: 1 }", "TYPE_STRING dims: 1 }")
    )
    write_model(new, "other")
    assert lookups([], [old])[OUTPUTS_MAP] == {"model/y": "classes"}
    assert lookups([], [old])[SEQUENCES_MAP] == {}
    both = lookups([], [old, new])
    assert both[OUTPUTS_MAP] == {"other/y": "classes"}
    assert both[SEQUENCES_MAP] == {"model": "1"}
    assert lookups([], [])[OUTPUTS_MAP] == {}


def test_any_configuration_of_a_model_may_be_the_served_one(tmp_path):
    folder = write_model(tmp_path, "model", config=f"# sequence_batching {{ }}\n{CONFIG}")
    assert lookups([], [tmp_path])[SEQUENCES_MAP] == {}
    (folder / "configs").mkdir()
    (folder / "configs" / "large.pbtxt").write_text(CONFIG + ONE_LINE)
    assert lookups([], [tmp_path])[SEQUENCES_MAP] == {"model": "1"}


def test_what_has_gone_is_an_error_of_ours(tmp_path):
    with pytest.raises(ServerError, match="no model repository"):
        lookups([], [tmp_path / "gone"])


def test_a_rendered_table_has_only_what_was_verified(tmp_path):
    """Of configurations alone, as a pod of a cluster has no more of a store."""
    models, output = tmp_path / "models", tmp_path / "out"
    new_key(tmp_path / "key.pem")
    for name in ("good", "changed", "unsigned"):
        folder = write_model(models, name, config=ONE_LINE + CONFIG)
        if name != "unsigned":
            Signer(tmp_path / "key.pem").sign(folder)
    (models / "good" / "1" / "model.py").unlink()
    with (models / "changed" / "config.pbtxt").open("a") as file:
        file.write("# changed\n")
    command = ["gateway", "render", f"--output={output}", f"--model-repository={models}"]
    command += ["--server=127.0.0.1:8000:8001", f"--gateway-keys={tmp_path / 'none'}"]
    assert main([*command, f"--verify-key={tmp_path / 'key.pub.pem'}"]) == 0
    assert (output / OUTPUTS_MAP).read_text() == "good/y classes\n"
    assert (output / SEQUENCES_MAP).read_text() == "good 1\n"
    assert main(command) == 0
    assert (output / OUTPUTS_MAP).read_text().count("\n") == 3
