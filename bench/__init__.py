"""Measurements of this machine: `make bench`, or one of them by `python -m bench.<name>`."""
