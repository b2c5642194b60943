"""Opens a SavedModel or a Keras file with TensorFlow, converts its signatures to ONNX, and answers inputs.

Run in the environment that `environment` beside it makes, never imported: it has TensorFlow, which nothing
else here has. Requests are lines of JSON on standard input, each with a reply of one line on standard output;
what TensorFlow prints goes to standard error. A path to load is a program that somebody wrote: it runs here,
as TensorFlow runs it.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_ENABLE_ONEDNN_OPTS="0")

SERVE = "serve"
MUST_COMPILE = "_XlaMustCompile"
SHOWN = 400  # characters of what TensorFlow says
# What reaches out of the graph: into Python, or to files beyond those of the SavedModel itself
REACHING = {
    *("PyFunc", "PyFuncStateless", "EagerPyFunc"),
    *("ReadFile", "WriteFile", "MatchingFiles", "DebugIdentityV2", "PrintV2"),
    *("WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "TFRecordReaderV2"),
    *("TFRecordDataset", "TFRecordDatasetV2", "TextLineDataset", "FixedLengthRecordDatasetV2"),
    *("SaveDataset", "SaveDatasetV2", "LoadDataset", "CacheDataset", "CacheDatasetV2"),
    *("CreateSummaryFileWriter", "WriteSummary", "RpcCall", "RpcClient", "LMDBDataset", "SqlDataset"),
}


class Refused(Exception):
    """kind: for the caller to say what to do next; text: what TensorFlow said."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind, self.text = kind, text


class Program:
    """What was opened, and the folder of its SavedModel."""

    def __init__(self) -> None:
        self.folder = ""
        self.signatures: dict[str, Any] = {}

    def open(self, path: str, scratch: str, allow_code: bool) -> dict[str, Any]:
        """Inputs and outputs of every signature: name to [dtype, dims], dims None where the rank is open."""
        self.folder = path
        if Path(path).is_file():
            self.folder = str(Path(scratch) / "saved_model")
            _export_keras(path, self.folder, allow_code)
        elif not allow_code:
            _look_for_code(Path(path))
        import tensorflow as tf

        try:
            self.loaded = tf.saved_model.load(self.folder, tags=[SERVE])  # kept, or its variables are gone
        except Exception as error:
            raise _refusal(error) from error
        self.signatures = dict(getattr(self.loaded, "signatures", {}))
        return {
            "signatures": {
                name: {
                    # the argument of an input "my-input" is my_input; clients send what the tensor is called
                    "inputs": {
                        spec.name or key: _tensor(spec)
                        for key, spec in one.structured_input_signature[1].items()
                    },
                    "outputs": {key: _tensor(spec) for key, spec in one.structured_outputs.items()},
                }
                for name, one in self.signatures.items()
            }
        }

    def convert(self, signature: str, opset: int, file: str) -> dict[str, Any]:
        """Writes the ONNX file; unsupported: operators without a counterpart, each with a node's name."""
        import tf2onnx.convert

        _add_operators()
        folder = _in_one_graph(Path(self.folder), Path(file).parent / "in_one_graph")
        asked = sys.argv
        sys.argv = [
            *("tf2onnx", "--saved-model", str(folder), "--tag", SERVE, "--signature_def", signature),
            *("--opset", str(opset), "--output", file),
        ]
        try:
            tf2onnx.convert.main()
        except SystemExit as error:
            raise Refused("operators", f"tf2onnx ended with {error.code}") from error
        except Exception as error:
            raise Refused("operators", _told(error)) from error
        finally:
            sys.argv = asked
        return {"unsupported": _unsupported(file)}

    def answer(self, signature: str, inputs: str, outputs: str) -> dict[str, Any]:
        """The outputs of items, arrays "ITEM/NAME" of an .npz file to another such; refused: by item, what
        TensorFlow said."""
        import numpy as np
        import tensorflow as tf

        items: dict[str, dict[str, Any]] = {}
        with np.load(inputs, allow_pickle=False) as file:
            for key in file.files:
                item, _, name = key.partition("/")
                items.setdefault(item, {})[name] = file[key]
        found, refused = {}, {}
        for item, arrays in items.items():
            try:
                given = {name: tf.constant(array) for name, array in arrays.items()}
                answer = self.signatures[signature](**given)
            except Exception as error:
                refused[item] = _told(error)
                continue
            found.update({f"{item}/{name}": tensor.numpy() for name, tensor in answer.items()})
        np.savez(outputs, **found)
        return {"refused": refused}


def _export_keras(path: str, folder: str, allow_code: bool) -> None:
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not allow_code)
    except Exception as error:
        text = _told(error)
        unsafe = re.search(r"safe_mode|unsafe|arbitrary code|lambda", text, re.IGNORECASE)
        if unknown := re.search(r"Could not locate \w+ '[^']+'|Unknown layer: \W?\w+", text):
            raise Refused("custom", unknown[0]) from error
        raise Refused("code" if unsafe else "keras", text.split(". ")[0][:SHOWN]) from error
    try:
        model.export(folder, format="tf_saved_model", verbose=False)
    except Exception as error:
        raise Refused("keras", _told(error)) from error


def _saved(folder: Path) -> Any:
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        if (folder / "saved_model.pb").is_file():
            saved.ParseFromString((folder / "saved_model.pb").read_bytes())
        else:
            text_format.Parse((folder / "saved_model.pbtxt").read_text(), saved)
    except Exception as error:
        raise Refused("damaged", _told(error)) from error
    return saved


def _in_one_graph(folder: Path, scratch: Path) -> Path:
    """The SavedModel with no function that must be compiled by XLA, which stays a function when others are
    put into the graph: Keras has one where a convolution has groups. `folder` itself where there is none."""
    saved = _saved(folder)
    found = False
    for graph in (one.graph_def for one in saved.meta_graphs):
        functions = graph.library.function
        nodes = [*graph.node, *(node for function in functions for node in function.node_def)]
        for owner in (*functions, *nodes):
            if MUST_COMPILE in owner.attr:
                del owner.attr[MUST_COMPILE]
                found = True
    if not found:
        return folder
    scratch.mkdir(exist_ok=True)
    for part in folder.iterdir():
        if part.name not in ("saved_model.pb", "saved_model.pbtxt", "fingerprint.pb"):
            link = scratch / part.name
            link.unlink(missing_ok=True)
            link.symlink_to(part.absolute())
    (scratch / "saved_model.pb").write_bytes(saved.SerializeToString())
    return scratch


def _add_operators() -> None:
    """What tf2onnx lacks: Erfc, which is in Keras's gelu, as one less Erf."""
    import numpy as np
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, graph: Any, node: Any, **_: object) -> None:
            shapes, dtypes = node.output_shapes, node.output_dtypes
            erf = graph.make_node("Erf", node.input, shapes=shapes, dtypes=dtypes)
            one = graph.make_const(
                utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(dtypes[0]))
            )
            graph.remove_node(node.name)
            inputs = [one.output[0], erf.output[0]]
            graph.make_node("Sub", inputs, name=node.name, outputs=node.output, shapes=shapes, dtypes=dtypes)


def _look_for_code(folder: Path) -> None:
    saved = _saved(folder)
    graphs = [one.graph_def for one in saved.meta_graphs]
    if not graphs:
        raise Refused("damaged", "it holds no graph")
    tags = [list(one.meta_info_def.tags) for one in saved.meta_graphs]
    if not any(SERVE in one for one in tags):
        raise Refused("tags", ", ".join(str(one) for one in tags))
    found = {node.op for graph in graphs for node in graph.node}
    found |= {
        node.op for graph in graphs for function in graph.library.function for node in function.node_def
    }
    if reaching := sorted(found & REACHING):
        raise Refused("code", ", ".join(reaching))


def _tensor(spec: Any) -> list[Any]:
    dtype = getattr(spec, "dtype", None)
    if (
        dtype is None
        or not hasattr(spec, "shape")
        or type(spec).__name__ not in ("TensorSpec", "SymbolicTensor", "Tensor")
    ):
        return [type(spec).__name__, None]
    return [dtype.name, None if spec.shape.rank is None else spec.shape.as_list()]


def _refusal(error: Exception) -> Refused:
    text = _told(error)
    if found := re.search(r"Op type not registered '([^']+)'", text):
        return Refused("custom op", found[1])
    return Refused("damaged", text)


def _unsupported(file: str) -> dict[str, str]:
    import onnx

    found: dict[str, str] = {}
    graphs = [onnx.load(file, load_external_data=False).graph]
    while graphs:
        for node in graphs.pop().node:
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
            if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
                found.setdefault(node.op_type, node.name)
            elif node.domain not in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft"):
                found.setdefault(f"{node.domain}.{node.op_type}", node.name)
    return found


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[: 5 * SHOWN] or type(error).__name__


def main() -> None:
    """Until standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what TensorFlow and Keras print is not a reply
    program = Program()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(program, request.pop("do"))(**request)
        except Refused as refusal:
            reply = {"refused_kind": refusal.kind, "text": refusal.text}
        except Exception as error:
            reply = {"refused_kind": "failed", "text": f"{type(error).__name__}: {_told(error)}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
