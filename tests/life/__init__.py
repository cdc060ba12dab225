"""The long life of one repository: does anything grow that must not?

``python -m tests.life`` runs it and draws the figures.
"""
