"""What a model is in its user's words: specs, files that hold them, and lines of the user's code."""
