"""Many processes at once on one home, with plain git beside them.

``python -m tests.concurrency --help`` runs it by hand; ``test_campaign.py`` runs its short form.
"""
