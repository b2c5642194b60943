"""TensorFlow Serving's interfaces, spoken to Triton: gRPC PredictionService and ModelService, and REST.

A process of its own, beside tritonserver or anywhere else: it asks Triton over HTTP and knows nothing of
models but what Triton tells. `python -m server --tfserving` starts and watches it; alone it is
`python -m server.tfserving`.
"""
