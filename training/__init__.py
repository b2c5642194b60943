"""Makes the weights of the text networks: generated lines, degradation, CTC training, evaluation."""
