"""``python -m tweakio`` is the command ``tweakio``."""

from __future__ import annotations

import sys

from tweakio.cli import main

if __name__ == "__main__":
    sys.exit(main())
