"""Where in the user's own network a node comes from, which PyTorch's exporter writes into the nodes it makes.

A published graph has none of it, as it would be different on each machine; a network is traced again for it.
"""

import ast
import contextlib
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator

import onnx

from export.sources.specs.spec import ModelSpec
from export.sources.specs.user_code import line_of_frames

__all__ = ["origin_of", "traced"]

STACK, SCOPES, CLASSES = (
    f"pkg.torch.onnx.{name}" for name in ("stack_trace", "name_scopes", "class_hierarchy")
)
OURS = "export.sources.specs.pixel_module."  # the network is its module `network`
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


def origin_of(node: onnx.NodeProto) -> str:
    """As "layer 'fc', net.py:12", or "net.py:12, in forward: `x = x.amax((2, 3))`" where it is no layer of
    PyTorch's; empty where the graph does not tell."""
    told = {entry.key: entry.value for entry in node.metadata_props}
    if not {STACK, SCOPES, CLASSES} <= told.keys():
        return ""
    frames = FRAME.findall(told[STACK])
    line = line_of_frames(traceback.FrameSummary(file, int(number), name) for file, number, name in frames)
    try:  # from the outermost module in, and then the operation
        *scopes, _ = ast.literal_eval(told[SCOPES])
        *classes, _ = ast.literal_eval(told[CLASSES])
    except (SyntaxError, ValueError):
        return line or ""
    if not classes or not classes[-1].startswith("torch.nn."):
        return line or ""
    name = scopes[-1].removeprefix("network." if classes[0].startswith(OURS) else "")
    return ", ".join([f"layer '{name}'", *(line or "").split(", in ")[:1]]).removesuffix(", ")


def traced(spec: ModelSpec) -> onnx.ModelProto:
    """The spec's graph with all that the exporter writes into it, for random weights and the example's batch.

    Raises what building or exporting the network raises.
    """
    import torch

    from export.graphs.conversion import EXAMPLE_BATCH, first_states, stack
    from export.sources.spec_calls import samples_of, served_of

    served = served_of(spec, spec.network().eval())
    example = (*stack([samples_of(spec)[0]] * EXAMPLE_BATCH), *first_states(spec, EXAMPLE_BATCH))
    with _quiet():
        program = torch.onnx.export(
            served,
            tuple(torch.from_numpy(array) for array in example),
            dynamo=True,
            input_names=[tensor.name for tensor in spec.graph_inputs],
            output_names=[tensor.name for tensor in spec.graph_outputs],
            verbose=False,
        )
    assert program is not None  # as it is for dynamo=True
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of packages that are missing and of its own deprecated calls."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
