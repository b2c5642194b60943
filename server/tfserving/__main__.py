"""`python -m server.tfserving`."""

if __name__ == "__main__":  # the processes that read large documents import this file, outside its package
    import sys

    from .cli import main

    sys.exit(main())
