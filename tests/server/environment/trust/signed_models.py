"""Models that are signed, what a launcher copies of them, and ways to change them."""

import shutil

from server.environment.trust.keys import read_keys
from server.environment.trust.verified import VerifiedRepository

FILES = {
    "config.pbtxt": b'backend: "python"',
    "configs/cpu.pbtxt": b"max_batch_size: 1",
    "labels.txt": b"cat\ndog\n",
    "1/model.py": b"import helper",
    "1/helper.py": b"x = 1",
    "1/model.onnx.data": bytes(3 * 2**20 + 7),
    "2/.gitkeep": b"",
}


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


def flip(path, at=-1):
    changed = bytearray(path.read_bytes())
    changed[at] ^= 1
    path.write_bytes(changed)


def write_bytecode(model, name="helper.cpython-311.pyc"):
    (model / "1" / "__pycache__").mkdir(exist_ok=True)
    (model / "1" / "__pycache__" / name).write_bytes(b"forged")
