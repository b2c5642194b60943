"""TensorRT: plans for NVIDIA's TensorRT backend, and the ONNX Runtime backend with TensorRT inside.

Nothing here is a model of its own. A plan lies beside the `model.onnx` that it was built from, in the same
version folder, and its configuration in `configs/` of the model's folder, where tritonserver looks for it
when it is started with `--model-config-name`. So one repository serves with and without TensorRT.
"""
