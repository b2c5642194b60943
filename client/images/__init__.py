"""From what a caller has, a file, an array, an address, to the bytes or pixels that a model takes."""
