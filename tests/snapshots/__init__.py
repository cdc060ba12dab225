"""Snapshots of browser data."""
