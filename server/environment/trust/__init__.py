"""Models that somebody vouched for: signatures, and copies of exactly the files that were signed."""
