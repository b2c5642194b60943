"""Siblings of classifiers that also give class activation maps."""
