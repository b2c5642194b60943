"""Checks that hold configs against graphs, and graphs against ONNX Runtime."""
