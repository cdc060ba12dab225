"""Logging in, from the command line and from Python, in a real browser."""
