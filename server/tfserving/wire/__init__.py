"""What goes over the wire: TensorFlow Serving's messages, its tensors as Triton's and back, and refusals."""
