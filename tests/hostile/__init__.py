"""Hostile input: bytes, names and work trees that somebody prepared to do harm.

``python -m tests.hostile`` is the long form; the tests in this package are the short one.
"""
