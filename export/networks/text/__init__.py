"""The networks that read lines of text, whole or strip by strip, and the characters that they tell apart."""
