"""How fast tweakio is, as ratios to plain git and to bare Python.

``python -m tests.benchmark --help`` runs it by hand; ``test_benchmark.py`` only sees that it
works. docs/performance.md has the figures and what they mean.
"""
