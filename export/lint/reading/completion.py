"""What each backend fills into a config before core looks at it, as the backends of release 24.10 do.

Core checks the entries of `input` and `output` only after the backend had its turn, so an entry may lack
what its backend knows. TensorRT, TensorFlow and DALI fill in the type and dims of entries that are there, a
Python model whatever its `auto_complete_config` adds; ONNX Runtime and OpenVINO write a whole section where
there is none, and PyTorch nothing. Of a backend of someone's own nothing is known.
"""

import ast

__all__ = [
    "BATCH_FROM_FILE",
    "ENTRIES",
    "INPUTS",
    "METHOD",
    "NOTHING",
    "SECTIONS",
    "UNKNOWN",
    "completion",
    "overrides_config",
]

NOTHING = "nothing"
SECTIONS = "sections"  # `input` or `output` where it is left out, whole
ENTRIES = "entries"  # and what the entries that are there leave out
INPUTS = "inputs"  # and inputs that are not there, too
UNKNOWN = "unknown"  # a backend of someone's own, which may do any of this

_OF_BACKENDS = {
    "": NOTHING,  # an ensemble, or a backend that cannot be told
    "onnxruntime": SECTIONS,
    "openvino": SECTIONS,
    "pytorch": NOTHING,
    "tensorrt": ENTRIES,
    "tensorflow": INPUTS,
    "dali": INPUTS,
}
# These set a max_batch_size that is left out from the file, though all tensors are listed.
BATCH_FROM_FILE = {"tensorrt", "tensorflow", "dali", "openvino"}
MODEL_CLASS = "TritonPythonModel"
METHOD = "auto_complete_config"  # of a Python model


def completion(backend: str, python_source: str, runtime: str = "") -> str:
    """How much of `input` and `output` the backend may fill in: the constants above, each more than the last.

    python_source: of a Python model, else "".  runtime: `runtime` of the config, which makes any backend a
    Python program.
    """
    if backend == "python":
        return INPUTS if overrides_config(python_source) else NOTHING
    if runtime:
        return UNKNOWN
    return _OF_BACKENDS.get(backend, UNKNOWN)


def overrides_config(source: str) -> bool:
    """May this model.py complete its config: does it define, inherit or import the method?"""
    if METHOD in source:
        return True
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == MODEL_CLASS:
            return any(getattr(base, "id", "") != "object" for base in node.bases)
    return MODEL_CLASS in source  # imported, or assigned
