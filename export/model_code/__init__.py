"""Code that served Python models share. It imports nothing of ours: it runs where only they are.

`python -m export copies` writes it into the models that need it, beside their `model.py`, and
`python -m export --check` holds the copies equal. The rest of the project imports it from here.
"""
