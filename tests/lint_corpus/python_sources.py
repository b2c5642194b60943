"""What model.py says in the corpus, where it is sound; faults are made of it."""

MODEL_PY = "class TritonPythonModel:\n    def execute(self, requests):\n        return respond(requests)\n"
COMPLETING_PY = MODEL_PY + "    @staticmethod\n    def auto_complete_config(config):\n        return config\n"
INHERITING_PY = "from base import Base\nclass TritonPythonModel(Base):\n    pass\n"
IMPORTED_PY = "try:\n    from impl import TritonPythonModel\nexcept ImportError:\n    from .impl import *\n"
ASSIGNED_PY = (
    "class Any:\n    pass\ndef run(self, requests):\n    return []\n"
    "Any.execute = run\nTritonPythonModel = Any\n"
)
FROM_A_BASE_PY = (
    MODEL_PY.replace("TritonPythonModel", "Base")
    + "class TritonPythonModel(Base, object):\n    def initialize(self, args, more=None):\n        pass\n"
)
IN_BRANCHES_PY = (
    "class TritonPythonModel:\n    if True:\n"
    "        async def execute(self, *requests):\n            return []\n"
)
READING_PY = """\
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            data = pb_utils.get_input_tensor_by_name(request, "bytes").as_numpy()
            image = pb_utils.Tensor("image", data)
            request.get_response_sender().send(pb_utils.InferenceResponse([image]))
"""
ANSWERING_PY = """\
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            data = pb_utils.get_input_tensor_by_name(request, "bytes").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("image", data)]))
        return responses
"""
FILLING_PY = """\
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "bytes", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "image", "data_type": "TYPE_FP32", "dims": [3, 32]})
        config.set_max_batch_size(8)
        return config
    def execute(self, requests):
        return respond(requests)
"""
FOLLOWED_PY = FILLING_PY.replace(
    """        config.set_max_batch_size(8)
""",
    """        written = config.as_dict()
        names = [entry["name"] for entry in written["input"]]
        more = [{"name": "more", "data_type": "TYPE_FP32", "dims": [1]}]
        for entry in more:
            if entry["name"] not in names:
                config.add_input({**entry, "optional": True})
        if written["max_batch_size"] < 4:
            config.set_max_batch_size(4)
        try:
            config.set_dynamic_batching()
        except ValueError:
            pass
        config.set_model_transaction_policy(dict(decoupled=False))
""",
)
UNSAFE_PY = FILLING_PY.replace(  # nothing of which surely runs
    """        config.add_input(""",
    """        if config.as_dict()["input"]:
            return config
        config.add_input(""",
).replace('"TYPE_FP32"', '"FP32"')
HANDING_PY = (
    "from answers import answer\nclass TritonPythonModel:\n    def execute(self, requests):\n"
    "        for number, request in enumerate(requests):\n            answer(number, request)\n"
)
KEEPING_PY = (
    "class TritonPythonModel:\n    def execute(self, requests):\n        self.waiting = [*requests]\n"
    "        self.event.set()\n"
)
BOTH_WAYS_PY = """\
class TritonPythonModel:
    def execute(self, requests):
        if self.decoupled:
            return None
        responses = [self.answer(request) for request in requests]
        return responses
"""
OPTIONAL_PY = READING_PY.replace(
    "            image =",
    '            more = pb_utils.get_input_tensor_by_name(request, name="more")\n'
    '            more = None if more is None else pb_utils.Tensor("of another config", data)\n'
    "            image =",
)
CALLING_PY = """\
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceRequest(model_name="m", inputs=[pb_utils.Tensor("x", 1)]).exec()
            for request in requests
        ]
"""
CHAINED_PY = """\
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            pixels = pb_utils.get_input_tensor_by_name(request, "x")
            scores = pb_utils.InferenceRequest(
                model_name="m", requested_output_names=["y"], inputs=[pixels]
            ).exec()
            y = pb_utils.get_output_tensor_by_name(scores, "y")
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", y.as_numpy())]))
        return responses
"""
NETWORK_PY = "import torch\n" + MODEL_PY
