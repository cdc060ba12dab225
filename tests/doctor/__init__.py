"""Damage to ``.git``, and what the doctor makes of it.

``test_doctor_table.py`` compares it with docs/doctor.md; ``python -m tests.doctor --help`` runs
all of the table, or damages at random.
"""
