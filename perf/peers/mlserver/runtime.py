"""The job as a runtime of MLServer: a batch of requests in the open inference protocol, in JSON."""

import base64
import json

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from work import open_work


class WorkRuntime(MLModel):
    """One inference worker, which opens the job once."""

    async def load(self) -> bool:
        """Opens the job; True: the model is ready."""
        self.work = open_work()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """BYTES [batch, 1], base64, or FP32 [batch, 1024], to `answer` BYTES [batch, 1], JSON in each."""
        (tensor,) = payload.inputs
        data = tensor.data.root
        if tensor.datatype == "BYTES":
            texts = [item.decode() if isinstance(item, bytes) else item for item in data]
            bodies = [base64.b64decode(text) for text in texts]
        else:
            bodies = list(np.array(data, np.float32).reshape(tensor.shape[0], -1))
        answers = [json.dumps(answer) for answer in self.work.infer(list(map(self.work.prepare, bodies)))]
        output = ResponseOutput(name="answer", shape=[len(answers), 1], datatype="BYTES", data=answers)
        return InferenceResponse(model_name=self.name, outputs=[output])
