"""Leases: one machine at a time works on a profile that several of them have."""
