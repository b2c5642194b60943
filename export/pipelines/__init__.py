"""The ways to a published model: from PyTorch or an ONNX file, to a lighter sibling or a TensorRT plan."""
