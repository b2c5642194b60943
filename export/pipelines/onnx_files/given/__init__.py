"""What people give: an ONNX file with what lies beside it, and the names of its classes."""
