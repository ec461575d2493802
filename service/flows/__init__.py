"""Structured generation: an app's prompt with a caller's values in it, and one JSON object that fits the app's schema out of it.

The input is checked before the model is asked, the output before anybody gets it. A model whose answer does not fit is told once what is
wrong with it. Each call is a row of the ledger, whatever came of it.
"""
