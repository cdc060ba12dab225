"""Fault injection at every system call that changes something below the home.

``python -m tests.crash --help`` runs it by hand; ``test_faults.py`` runs its short form.
"""
