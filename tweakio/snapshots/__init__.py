"""Snapshots of stopped profiles' browser data, here or in a store of the user's."""
