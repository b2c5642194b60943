"""Reads a repository as Triton would: configs with their lines, graphs, what ONNX Runtime says of them."""
