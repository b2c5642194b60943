"""Lines of text as images, drawn from fonts, words and numbers by seed."""
