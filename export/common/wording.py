"""Numbers, and errors of others, in sentences."""

import re

__all__ = ["counted", "said_by"]

CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
NODE = re.compile(
    r"Non-zero status code returned while running (?P<kind>\S+) node\. "
    r"Name:'(?P<name>[^']*)' Status Message: "
)
PLACE = re.compile(r"/onnxruntime_src/\S+:\d+ [^()]*(?:\([^()]*\))?(?: const)? ?")


def counted(number: int, noun: str) -> str:
    """ "1 tensor", "2 tensors"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def said_by(error: BaseException) -> str:
    """In one line what an error says, or its type where it says nothing: of ONNX Runtime's the node and the
    reason, without the code and the place in its own sources."""
    text = " ".join(str(error).split())
    text = NODE.sub(_node, PLACE.sub("", CODE.sub("", text)))
    return text or type(error).__name__


def _node(match: re.Match[str]) -> str:
    name = f" {match['name']}" if match["name"] else ""
    return f"node {match['kind']}{name}: "
