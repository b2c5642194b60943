"""What is verified is what was signed, all of it and nothing else."""

import os
import shutil
import socket

import pytest

from export.repository.signing import Signer
from server.environment.trust.signatures import SIGNATURE_FILE
from tests.server.environment.trust.signed_models import FILES, content, copies, flip, write_bytecode


def test_the_copies_are_the_signed_files_alone(repository, public):
    (repository / "README.md").write_text("no model")
    (repository / "notes").mkdir()
    (repository / ".staging-3").mkdir()
    (repository / "one" / "1" / "model.py").chmod(0o755)
    made = copies(repository, public)
    assert not made.refused
    assert sorted(os.listdir(made.path)) == ["one", "two"]
    assert content(made.path / "one") == FILES
    assert os.access(made.path / "one" / "1" / "model.py", os.X_OK)
    assert made.path.stat().st_mode & 0o777 == 0o700


def replace_by_link(path):
    path.rename(path.parent.parent.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent.parent.parent / "elsewhere")


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replace_by_socket(path):
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def add_hard_link_outside(model):
    secret = model.parent.parent / "secret"
    secret.write_bytes(b"secret")
    os.link(secret, model / "1" / "stolen")


def move_into_git(model):
    (model / ".git" / "hooks").mkdir(parents=True)
    (model / ".git" / "hooks" / "x").write_text("the library leaves these out")


ATTACKS = {
    **{
        f"a byte of {name}": (lambda model, name=name: flip(model / name), name)
        for name in FILES
        if FILES[name]
    },
    "an empty file grows": (lambda model: (model / "2" / ".gitkeep").write_bytes(b"x"), "2/.gitkeep"),
    "a file is cut": (lambda model: os.truncate(model / "1" / "model.onnx.data", 2**20), "1/model.onnx.data"),
    "a file is removed": (lambda model: (model / "1" / "helper.py").unlink(), "1/helper.py"),
    "a version is removed": (lambda model: shutil.rmtree(model / "2"), "2/.gitkeep"),
    "a file is added": (lambda model: (model / "1" / "numpy.py").write_text("evil"), "1/numpy.py"),
    "a hidden file is added": (lambda model: (model / ".hidden").write_text(""), ".hidden"),
    "a name of no encoding": (lambda model: open(os.fsencode(model) + b"/\xff\n", "w").close(), "\\udcff\\n"),
    "an empty version is added": (lambda model: (model / "3").mkdir(), "3"),
    "bytecode within bytecode": (
        lambda model: (model / "1" / "__pycache__" / "__pycache__").mkdir(parents=True),
        "1/__pycache__/__pycache__",
    ),
    "a signature of no encoding": (
        lambda model: (model / SIGNATURE_FILE).write_text(
            (model / SIGNATURE_FILE).read_text().replace("application/vnd", "\\ud800")
        ),
        SIGNATURE_FILE,
    ),
    "a file beside bytecode": (lambda model: write_bytecode(model, "evil.py"), "1/__pycache__/evil.py"),
    "a library beside bytecode": (
        lambda model: (write_bytecode(model), write_bytecode(model, "helper.so")),
        "1/__pycache__/helper.so",
    ),
    "a folder beside bytecode": (
        lambda model: (write_bytecode(model), (model / "1" / "__pycache__" / "x").mkdir()),
        "1/__pycache__/x",
    ),
    "bytecode that is a link": (
        lambda model: (
            (model / "1" / "__pycache__").mkdir(),
            (model / "1" / "__pycache__" / "x.pyc").symlink_to("../helper.py"),
        ),
        "1/__pycache__/x.pyc",
    ),
    "a folder of bytecode that is a link": (
        lambda model: (model / "1" / "__pycache__").symlink_to("../../../elsewhere"),
        "1/__pycache__",
    ),
    "bytecode in a module's place": (
        lambda model: (model / "1" / "numpy.pyc").write_bytes(b""),
        "1/numpy.pyc",
    ),
    "a .git is added": (move_into_git, ".git"),
    "a file is renamed": (lambda model: (model / "1").rename(model / "9"), "9"),
    "two files change places": (
        lambda model: (
            (model / "1" / "model.py").rename(model / "1" / "x"),
            (model / "1" / "helper.py").rename(model / "1" / "model.py"),
            (model / "1" / "x").rename(model / "1" / "helper.py"),
        ),
        "1/helper.py",
    ),
    "the same file by a link": (lambda model: replace_by_link(model / "1" / "model.py"), "1/model.py"),
    "the same version by a link": (
        lambda model: ((model / "1").rename(model / "x"), (model / "1").symlink_to("x")),
        "",
    ),
    "a link is added": (lambda model: (model / "1" / "passwd").symlink_to("/etc/passwd"), "1/passwd"),
    "a link out of the repository": (lambda model: (model / "1" / "up").symlink_to("../../.."), "1/up"),
    "a hard link is added": (add_hard_link_outside, "1/stolen"),
    "a pipe": (lambda model: replace_by_pipe(model / "config.pbtxt"), "config.pbtxt"),
    "a socket": (lambda model: replace_by_socket(model / "labels.txt"), "labels.txt"),
    "a folder for a file": (
        lambda model: ((model / "labels.txt").unlink(), (model / "labels.txt").mkdir()),
        "labels.txt",
    ),
    "no signature": (lambda model: (model / SIGNATURE_FILE).unlink(), SIGNATURE_FILE),
    "a byte of the signature's file": (lambda model: flip(model / SIGNATURE_FILE, 500), SIGNATURE_FILE),
    "an empty signature": (lambda model: (model / SIGNATURE_FILE).write_text(""), SIGNATURE_FILE),
    "a deep signature": (lambda model: (model / SIGNATURE_FILE).write_text("[" * 10**6), SIGNATURE_FILE),
    "a signature that is a link": (
        lambda model: (
            (model / SIGNATURE_FILE).unlink(),
            (model / SIGNATURE_FILE).symlink_to("../two/model.sig"),
        ),
        SIGNATURE_FILE,
    ),
    "a signature that is a pipe": (lambda model: replace_by_pipe(model / SIGNATURE_FILE), SIGNATURE_FILE),
    "another model's folder": (
        lambda model: (shutil.rmtree(model), shutil.copytree(model.parent / "two", model)),
        SIGNATURE_FILE,
    ),
    "another model's signature": (
        lambda model: shutil.copy(model.parent / "two" / SIGNATURE_FILE, model / SIGNATURE_FILE),
        SIGNATURE_FILE,
    ),
    "the folder by a link": (lambda model: (shutil.rmtree(model), model.symlink_to("two")), ""),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_not_as_it_was_signed_is_refused_and_named(attack, repository, public, capsys):
    do, name = ATTACKS[attack]
    do(repository / "one")
    made = copies(repository, public)
    assert made.refused.keys() == {"one"}
    assert made.refused["one"].startswith(f"one/{name}".rstrip("/"))
    assert os.listdir(made.path) == ["two"]
    assert not list((made.path.parent / "incoming").iterdir())
    assert made.refused["one"] in capsys.readouterr().err


def test_bytecode_is_neither_a_fault_nor_served_nor_signed(repository, key, public):
    """A server without a key leaves it behind; whoever forges it has code of theirs run."""
    model = repository / "one"
    write_bytecode(model)
    made = copies(repository, public)
    assert not made.refused
    assert content(made.path / "one") == FILES
    (model / "__pycache__").mkdir()
    Signer(key).sign(model)
    assert not list(model.rglob("__pycache__/*.pyc"))
    write_bytecode(model, "notes.txt")
    write_bytecode(model)
    files = Signer(key).sign(model)
    assert files.keys() == FILES.keys() | {"1/__pycache__/notes.txt"}
    assert not copies(repository, public).refused


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_refused(repository, public):
    (repository / "one" / "labels.txt").chmod(0)
    assert "labels.txt" in copies(repository, public).refused["one"]
