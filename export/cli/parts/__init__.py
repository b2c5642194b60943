"""Parts of `python -m export`, by what is published: each has options, checks of them, and what it prints."""
