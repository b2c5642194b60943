"""What exports are made of: weights, samples, photographs, lines of text, labels."""
