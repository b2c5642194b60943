"""Where this package runs, and what its messages therefore advise: beside the project, or installed by pip.

In the repository it is the folder `server`; the wheel that is built from that folder (docs/decisions/0029)
installs the same files as `triton_vision_server`, with none of the project beside them.
"""

from pathlib import Path

__all__ = ["COMMAND", "INSTALL", "INSTALLED", "PROJECT", "advice_to_fill", "advice_to_sign", "reinstall"]

INSTALLED = __name__.partition(".")[0] != "server"
PROJECT = Path(__file__).resolve().parents[2]  # where it is not installed
COMMAND = "triton-vision-server" if INSTALLED else "python -m server"
INSTALL = "pip install --force-reinstall triton-vision-server" if INSTALLED else "make setup"


def reinstall(runtime: str = "") -> str:
    """The command that installs everything anew; runtime: "cpu" or "gpu", where that is the point."""
    if not INSTALLED:
        return f"make clean, then make setup{f' RUNTIME={runtime}' if runtime else ''}"
    if runtime == "gpu":
        return "pip uninstall onnxruntime, then pip install --force-reinstall 'onnxruntime-gpu[cuda,cudnn]'"
    return "pip uninstall onnxruntime-gpu, then pip install --force-reinstall onnxruntime"


def advice_to_fill(model: str = "") -> str:
    """What to do about a model, or about a whole repository, that has no version to load."""
    if not INSTALLED:
        return f"run `python -m export {model or '--all'}`"
    return f"put a version of it into a folder that is a number, as in {model or 'MODEL'}/1/model.onnx"


def advice_to_sign() -> str:
    """What to do about models without a signature that is good."""
    command = "`python -m model_signing sign key`" if INSTALLED else "`python -m export sign --key KEY`"
    return f"look at what changed, and sign what is right with {command}"
