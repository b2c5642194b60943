"""Error rates of readers on the same lines: ours, served ones, and others."""
