"""`python -m export sign`: keys, signatures, what is said of models that a server would refuse."""

import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from export.cli import sign as sign_cli
from export.cli.commands import run
from export.repository.publish import publish
from export.repository.signing import SIGNATURE_FILE
from tests.conftest import ROOT


@pytest.fixture
def repository(tmp_path):
    """Two models with something to load, and one without."""
    for name in ("one", "two"):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text('backend: "python"')
        (tmp_path / "models" / name / "1" / "model.py").write_text("import json")
    (tmp_path / "models" / "later").mkdir()
    (tmp_path / "models" / "later" / "config.pbtxt").write_text("")
    return tmp_path / "models"


@pytest.fixture
def call(repository, capsys):
    """A function: the exit code of the command, and its two outputs."""

    def sign(*arguments):
        try:
            code = run(["sign", *map(str, arguments), "--model-repository", str(repository)])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return sign


@pytest.fixture
def key(tmp_path, call):
    assert call("--new-key", tmp_path / "keys" / "models.pem")[0] == 0
    return tmp_path / "keys" / "models.pem"


def signed(repository):
    return {path.parent.name for path in repository.glob(f"*/{SIGNATURE_FILE}")}


def test_a_key_is_made_once_and_is_its_owners(key, call, repository):
    public = key.with_suffix(".pub.pem")
    assert key.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    before = key.read_bytes(), public.read_bytes()
    for path in (key, key.with_name("models.pub.pem")):
        code, _, told = call("--new-key", path)
        assert code == 1
        assert "is there already" in told
    assert (key.read_bytes(), public.read_bytes()) == before
    assert call("--new-key", repository / "key.pem")[0] == 1
    assert list(repository.glob("*.pem")) == []
    code, said, _ = call("--new-key", key.with_name("other.pem"), "--json")
    assert json.loads(said) == {
        "private": str(key.with_name("other.pem")),
        "public": str(key.with_name("other.pub.pem")),
    }


def test_all_models_that_can_be_loaded_are_signed_and_verified(key, call, repository):
    code, said, told = call("--key", key)
    assert (code, told) == (0, "")
    assert said == "signed one: 2 files\nsigned two: 2 files\n"
    assert signed(repository) == {"one", "two"}
    assert list(repository.glob(".staging*")) == []
    public = key.with_suffix(".pub.pem")
    code, said, _ = call("--verify", "--key", public, "--json")
    assert code == 0
    assert [(model["name"], model["outcome"], [*model["files"]]) for model in json.loads(said)] == [
        (name, "verified", ["1/model.py", "config.pbtxt"]) for name in ("one", "two")
    ]
    (repository / "one" / "1" / "model.py").write_text("import os")
    code, said, told = call("--verify", "--key", public, "--json")
    assert code == 1
    fault = "one is refused: 1/model.py is not the file that was signed"
    assert told == f"error: {fault}\n"
    assert [model["outcome"] for model in json.loads(said)] == ["refused", "verified"]
    assert json.loads(said)[0]["error"] == fault
    assert call("--verify", "two", "--key", public)[:2] == (0, "verified two: 2 files\n")


def test_those_that_are_named_are_signed_whatever_comes_of_others(key, call, repository):
    (repository / "one" / "labels.txt").symlink_to("config.pbtxt")
    code, said, told = call("one", "two", "two", "--key", key)
    assert (code, said) == (1, "signed two: 2 files\n")
    assert "one cannot be signed" in told
    assert "labels.txt" in told
    assert signed(repository) == {"two"}


@pytest.mark.parametrize("name", ["nobody", "../models/one", ".", "..", "one/1", "", "a" * 300])
def test_what_is_no_model_is_refused(name, key, call, repository):
    code, _, told = call(name, "--key", key)
    assert code == 1
    assert "there is no model" in told
    assert signed(repository) == set()


def test_a_model_without_a_version_is_refused(key, call, tmp_path):
    code, _, told = call("later", "--key", key)
    assert code == 1
    assert "export it first" in told
    (tmp_path / "empty").mkdir()
    code, _, told = call("--key", key, "--model-repository", tmp_path / "empty")
    assert code == 0, "the last --model-repository counts"
    assert run(["sign", "--key", str(key), "--model-repository", str(tmp_path / "empty")]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("one",),
        ("--verify",),
        ("--new-key", "a", "--key", "b"),
        ("--new-key", "a", "one"),
        ("--new-key", "a", "--verify"),
        ("--key", "a", "--key", "b"),
    ],
)
def test_wrong_usage(arguments, call, repository):
    code, _, told = call(*arguments)
    assert code == 2
    assert "--key" in told or "--new-key" in told


def test_what_is_no_key_says_so(key, call, tmp_path):
    public = key.with_suffix(".pub.pem")
    (tmp_path / "empty.pem").touch()
    bitcoins = ec.generate_private_key(ec.SECP256K1())
    (tmp_path / "k1.pem").write_bytes(
        bitcoins.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    for path, told in (
        (public, "is no private key"),
        (tmp_path / "empty.pem", "is no private key"),
        (tmp_path / "k1.pem", "is no key of the curves"),
        (tmp_path / "nothing.pem", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        code, _, error = call("--key", path)
        assert code == 1
        assert told in error
    code, _, error = call("--verify", "--key", key)
    assert code == 1
    assert "is a private key" in error


def test_a_key_with_a_password(call, tmp_path, repository, monkeypatch):
    key = ec.generate_private_key(ec.SECP384R1())
    path = tmp_path / "encrypted.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    )
    monkeypatch.setattr(sign_cli.getpass, "getpass", lambda _: "open barley")
    code, _, told = call("--key", path)
    assert code == 1
    assert "the password is not its" in told
    monkeypatch.setattr(sign_cli.getpass, "getpass", lambda _: "open sesame")
    assert call("--key", path)[0] == 0
    assert signed(repository) == {"one", "two"}


def test_a_password_that_nobody_types(tmp_path, repository):
    path = tmp_path / "encrypted.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")))
    done = subprocess.run(
        [sys.executable, "-m", "export", "sign", "--key", path, "--model-repository", repository],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        start_new_session=True,  # no terminal to ask at either
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"error: {path} has a password, and nobody is there to type it; nothing is signed\n"
    )
    assert signed(repository) == set()


def test_what_changes_a_signed_model_says_so(key, call, repository, capsys):
    publish(repository / "one", {"labels.txt": "cat"}, None)
    assert capsys.readouterr().err == ""
    call("one", "--key", key)
    publish(repository / "one", {"labels.txt": "cat"}, None)
    assert capsys.readouterr().err == "", "nothing was written"
    publish(repository / "one", {"labels.txt": "dog"}, None)
    assert "`python -m export sign one --key KEY`" in capsys.readouterr().err
    public = key.with_suffix(".pub.pem")
    assert call("--verify", "one", "--key", public)[0] == 1
    call("one", "--key", key)
    assert call("--verify", "one", "--key", public)[0] == 0


@pytest.mark.slow
def test_the_commands_of_the_page(repository, tmp_path):
    """As they are on a shell: keys beside the repository."""
    for arguments, code in (
        (["--new-key", "keys/models.pem"], 0),
        (["--key", "keys/models.pem"], 0),
        (["--verify", "--key", "keys/models.pub.pem"], 0),
        (["one", "--key", "keys/models.pub.pem"], 1),
    ):
        command = [sys.executable, "-m", "export", "sign", *arguments, "--model-repository", str(repository)]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert signed(repository) == {"one", "two"}
