"""Loads what is served and measures it: `python -m perf`."""

import os

# Or ONNX Runtime, 1.29 and later, reports names and hashes of models to its maker; read when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
