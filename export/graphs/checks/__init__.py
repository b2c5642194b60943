"""Is a graph right: in every batch, at every size, within the tolerance, and what the spec says?"""
