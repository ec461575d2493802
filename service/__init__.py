"""Brainstem: one AI backend for all your apps."""

__version__ = "0.4.0"
