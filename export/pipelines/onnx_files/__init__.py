"""ONNX files as people have them become verified models of the repository, without a spec."""
