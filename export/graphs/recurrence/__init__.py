"""Loops that step through a recurrent layer, as converters write them, become native nodes."""
