"""Models as a real Triton server serves them: asked from outside, or on trial before they are published."""
