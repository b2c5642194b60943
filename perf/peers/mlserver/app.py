"""MLServer: writes its settings, then becomes `mlserver start`.

Adaptive batching gathers requests in the main process for at most a millisecond; a pool of inference workers
runs them (`parallel_workers`).
"""

import json
import os
import sys
from pathlib import Path

MAX_BATCH_SIZE = 8
MAX_BATCH_TIME_S = 0.001

if __name__ == "__main__":
    folder = Path(os.environ["PEER_SCRATCH"])
    settings = {
        "host": "127.0.0.1",
        "http_port": int(os.environ["PEER_PORT"]),
        "grpc_port": int(os.environ["PEER_SECOND_PORT"]),
        "metrics_endpoint": None,
        "parallel_workers": int(os.environ["PEER_WORKERS"]),
        "debug": False,
    }
    model = {
        "name": "work",
        "implementation": "runtime.WorkRuntime",
        "max_batch_size": MAX_BATCH_SIZE,
        "max_batch_time": MAX_BATCH_TIME_S,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ["PYTHONPATH"]])
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(folder)])
