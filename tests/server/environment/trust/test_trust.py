"""What is verified is what was signed, all of it and nothing else, as OpenSSF's own library signs it."""

import base64
import errno
import json
import os
import shutil
import socket
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from model_signing import hashing, signing, verifying

from export.repository.signing import Signer, new_key
from server.environment.trust import folders, signatures, verified
from server.environment.trust.keys import read_keys
from server.environment.trust.signatures import SIGNATURE_FILE
from server.environment.trust.verified import VerifiedRepository
from server.errors import KeyFileError, RepositoryError, SignatureError
from tests.processes import wait_until

FILES = {
    "config.pbtxt": b'backend: "python"',
    "configs/cpu.pbtxt": b"max_batch_size: 1",
    "labels.txt": b"cat\ndog\n",
    "1/model.py": b"import helper",
    "1/helper.py": b"x = 1",
    "1/model.onnx.data": bytes(3 * 2**20 + 7),
    "2/.gitkeep": b"",
}


@pytest.fixture
def key(tmp_path):
    new_key(tmp_path / "keys" / "models.pem")
    return tmp_path / "keys" / "models.pem"


@pytest.fixture
def public(key):
    return key.with_suffix(".pub.pem")


@pytest.fixture
def repository(tmp_path, key):
    """Two signed models."""
    for model in ("one", "two"):
        write(tmp_path / "models" / model)
        Signer(key).sign(tmp_path / "models" / model)
    return tmp_path / "models"


def write(folder):
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def copies(repository, *publics):
    """As a launcher would serve them."""
    folder = repository.parent / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = VerifiedRepository(repository, read_keys(publics), folder)
    made.take_all()
    return made


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_a_signature_is_openssfs_and_openssfs_is_taken(repository, key, public):
    model = repository / "one"
    checked = verifying.Config().use_elliptic_key_verifier(public_key=public)
    checked.verify(model, model / SIGNATURE_FILE)
    rules = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
    theirs = signing.Config().set_hashing_config(rules).use_elliptic_key_signer(private_key=key)
    theirs.sign(model, model / SIGNATURE_FILE)
    assert not copies(repository, public).refused


def flip(path, at=-1):
    changed = bytearray(path.read_bytes())
    changed[at] ^= 1
    path.write_bytes(changed)


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


def write_bytecode(model, name="helper.cpython-311.pyc"):
    (model / "1" / "__pycache__").mkdir(exist_ok=True)
    (model / "1" / "__pycache__" / name).write_bytes(b"forged")


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


def forged(repository, key, change):
    """The statement of `one`, changed and signed with the right key."""
    path = repository / "one" / SIGNATURE_FILE
    bundle = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement, bundle)
    payload = json.dumps(statement).encode()
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    kind = bundle["dsseEnvelope"]["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    signature = load_pem_private_key(key.read_bytes(), None).sign(signed, ec.ECDSA(hashes.SHA256()))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    path.write_text(json.dumps(bundle))


@pytest.mark.parametrize(
    "change",
    [
        lambda statement, bundle: statement.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda statement, bundle: statement["predicate"]["serialization"].update(method="shards"),
        lambda statement, bundle: statement["predicate"]["serialization"].update(hash_type="blake2"),
        lambda statement, bundle: statement["predicate"]["serialization"].update(allow_symlinks=True),
        lambda statement, bundle: statement.update(subject=[]),
        lambda statement, bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
        lambda statement, bundle: statement["predicate"]["resources"].append(
            statement["predicate"]["resources"][0]
        ),
    ],
)
def test_other_statements_by_the_right_key_vouch_for_nothing(change, repository, key, public):
    forged(repository, key, change)
    assert "says something else" in copies(repository, public).refused["one"]


@pytest.mark.parametrize("name", ["../two/labels.txt", "/etc/hostname", "1/../labels.txt"])
def test_a_signed_path_out_of_the_folder_is_never_followed(name, repository, key, public):
    def add(statement, bundle):
        statement["predicate"]["resources"].append({"name": name, "algorithm": "sha256", "digest": "0" * 64})

    forged(repository, key, add)
    assert "is missing" in copies(repository, public).refused["one"]


def test_a_signature_cannot_leave_files_out(repository, key, public):
    forged(
        repository,
        key,
        lambda statement, _: statement["predicate"]["serialization"].update(ignore_paths=["1/evil.py"]),
    )
    (repository / "one" / "1" / "evil.py").write_text("")
    assert copies(repository, public).refused["one"].startswith("one/1/evil.py was added")


def test_a_signature_of_many_parts_is_not_read(public, monkeypatch):
    """Five million empty objects would take 400 MB."""
    monkeypatch.setattr(signatures.json, "loads", lambda _: pytest.fail("it is read"))
    with pytest.raises(SignatureError, match="is no signature"):
        signatures.read_signature(b"[" + b"{}," * 2000 + b"{}]", read_keys([public]))


def test_another_key_is_refused_and_several_may_be_given(repository, public, tmp_path):
    other = new_key(tmp_path / "keys" / "other.pem")
    Signer(tmp_path / "keys" / "other.pem").sign(repository / "two")
    assert copies(repository, public).refused == {"two": f"two/model.sig is by another key than {public}"}
    assert not copies(repository, other, public).refused
    shutil.rmtree(repository / "two")
    with pytest.raises(RepositoryError, match=r"one/model\.sig is by another key than .*export sign"):
        copies(repository, other)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_other_curves(curve, repository, tmp_path):
    key = ec.generate_private_key(curve)
    private, public = tmp_path / "k", tmp_path / "k.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for model in ("one", "two"):
        Signer(private).sign(repository / model)
    assert not copies(repository, public).refused


def test_what_is_no_public_key_says_so(key, tmp_path):
    with pytest.raises(KeyFileError, match="is a private key"):
        read_keys([key])
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        read_keys([tmp_path / "nothing"])
    (tmp_path / "text").write_text("hello")
    with pytest.raises(KeyFileError, match="is no public key in PEM"):
        read_keys([tmp_path / "text"])
    (tmp_path / "models").mkdir()
    inside = shutil.copy(key.with_suffix(".pub.pem"), tmp_path / "models")
    (tmp_path / "keys" / "link.pem").symlink_to(inside)
    for path in (inside, tmp_path / "keys" / "link.pem"):
        with pytest.raises(KeyFileError, match="lies in the model repository"):
            read_keys([path], tmp_path / "models")
    (tmp_path / "text").write_bytes(key.with_suffix(".pub.pem").read_bytes() * 2)
    with pytest.raises(KeyFileError, match="holds several keys"):
        read_keys([tmp_path / "text"])
    (tmp_path / "text").write_bytes(b"")
    with pytest.raises(KeyFileError, match="is no public key in PEM"):
        read_keys([tmp_path / "text"])
    bitcoins = ec.generate_private_key(ec.SECP256K1()).public_key()
    (tmp_path / "text").write_bytes(bitcoins.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyFileError, match="of the curves secp256r1"):
        read_keys([tmp_path / "text"])
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    (tmp_path / "text").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyFileError, match="of the curves secp256r1"):
        read_keys([tmp_path / "text"])


def test_a_change_while_it_is_copied_is_not_served(repository, public, monkeypatch):
    """Whoever changes a file between two reads finds that there is one only."""
    read = folders._read

    def changing(folder, name, most_bytes):
        model = os.path.basename(os.readlink(f"/proc/self/fd/{folder}"))
        for number, chunk in enumerate(read(folder, name, most_bytes)):
            if model == "one" and name == "1/model.onnx.data" and number == 0:
                flip(repository / model / name)  # its last byte, not read yet
            yield chunk
        if model == "two" and name == "labels.txt":
            flip(repository / model / name)  # it was read: too late

    monkeypatch.setattr(folders, "_read", changing)
    made = copies(repository, public)
    assert made.refused == {"one": "one/1/model.onnx.data is not the file that was signed"}
    assert content(made.path / "two") == FILES


def test_a_file_that_grows_or_fills_the_disk_is_not_copied(repository, public, monkeypatch):
    with open(repository / "one" / "1" / "helper.py", "r+b") as file:
        file.truncate(2**40)  # sparse
    usage = shutil.disk_usage(repository)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: usage._replace(free=2**39))
    made = copies(repository, public)
    assert "has 1,048,579 MiB to copy" in made.refused["one"]
    assert os.listdir(made.path) == ["two"]


def test_a_copy_never_makes_the_runs_folder_anew(repository, public, monkeypatch):
    """A guard removes it at the end of a run, whatever a thread is copying."""
    made, read = copies(repository, public), folders._read

    def ending(folder, name, most_bytes):
        yield from read(folder, name, most_bytes)
        if name == "1/helper.py":
            shutil.rmtree(made.path.parent)

    monkeypatch.setattr(folders, "_read", ending)
    with pytest.raises(SignatureError, match="cannot be read or copied"):
        made.take("one")
    assert not made.path.parent.exists()


def test_a_disk_that_is_full_is_told(repository, public, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders, "_written", full)
    with pytest.raises(RepositoryError, match="one cannot be read or copied: No space left on device"):
        copies(repository, public)
    monkeypatch.setattr(verified.Path, "mkdir", full)
    with pytest.raises(RepositoryError, match=r"No space left on device; make room, or let TMPDIR"):
        VerifiedRepository(repository, read_keys([public]), repository.parent / "run")


def test_a_name_is_no_path(repository, public):
    made = copies(repository, public)
    outside = repository.parent / "outside"  # of this test: what a mistake may remove
    outside.mkdir()
    for name in ("../one", "..", ".", "", "one/1", "one\0", str(outside)):
        with pytest.raises(SignatureError, match="is no name of a model"):
            made.take(name)
    with pytest.raises(SignatureError, match="nobody cannot be read"):
        made.take("nobody")


def test_what_is_refused_is_not_read_again_until_it_changes(repository, key, public, monkeypatch):
    """A model of gigabytes would be, at each poll."""
    reads = []
    verify = verified.check_signed
    monkeypatch.setattr(verified, "check_signed", lambda *given: (reads.append(1), verify(*given))[1])
    made = copies(repository, public)

    def polled(times=4):
        """How often a model was read in some polls."""
        before, stop = len(reads), threading.Event()
        waits = iter([False] * times)
        monkeypatch.setattr(stop, "wait", lambda _: next(waits, True))
        made.follow(stop, 0)
        return len(reads) - before

    assert polled() == 0
    flip(repository / "one" / "labels.txt")
    assert polled() == 2
    assert polled() == 0
    flip(repository / "one" / "1" / "helper.py")
    assert polled() == 0, "it is refused anyway"
    flip(repository / "one" / "labels.txt")
    assert polled() == 2
    assert "helper.py" in made.refused["one"]
    flip(repository / "one" / "1" / "helper.py")
    assert polled() == 1
    assert not made.refused


@pytest.mark.parametrize("can_exchange", [True, False])
def test_following_takes_what_is_signed_and_keeps_what_was(
    can_exchange, repository, key, public, monkeypatch, capsys
):
    if not can_exchange:
        monkeypatch.setattr(verified.libc, "renameat2", lambda *_: -1)
    made = copies(repository, public)
    stop = threading.Event()
    thread = threading.Thread(target=made.follow, args=(stop, 0.01))
    thread.start()
    try:
        inode = (made.path / "two").stat().st_ino
        (repository / "one" / "labels.txt").write_text("evil")
        wait_until(lambda: made.refused, 20)
        assert (made.path / "one" / "labels.txt").read_bytes() == FILES["labels.txt"]
        Signer(key).sign(repository / "one")
        wait_until(lambda: not made.refused, 20)
        assert (made.path / "one" / "labels.txt").read_text() == "evil"
        write(repository / "three")
        wait_until(lambda: made.refused, 20)
        assert not (made.path / "three").exists()
        Signer(key).sign(repository / "three")
        wait_until(lambda: (made.path / "three").exists(), 20)
        shutil.rmtree(repository / "one")
        wait_until(lambda: not (made.path / "one").exists() and not made.refused, 20)
        assert (made.path / "two").stat().st_ino == inode, "untouched"
    finally:
        stop.set()
        thread.join()
    told = capsys.readouterr().err
    assert told.count("one/labels.txt is not the file that was signed") == 1
    assert "model one is as it was signed" in told
