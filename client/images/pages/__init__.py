"""Pages of text: what they hold, and their lines."""
