"""Profiles as one file: export and import (docs/archives.md).

``Archives`` is where to begin. ``container`` is the ZIP, ``importer`` makes profiles of whatever
comes in, each kind of source in a module of its own; ``output`` is the file that appears at once.
"""
