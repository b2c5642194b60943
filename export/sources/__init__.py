"""What exports are made of: specs, weights, samples, photographs, lines of text, labels."""
