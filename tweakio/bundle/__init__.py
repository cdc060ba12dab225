"""The browser data of a stopped profile as one stream: tar, zstd, and sealed if asked for.

Any tar opens it (``tar --zstd -xf``). It has ``session.json`` and ``browser_profile/`` without
caches and browsers' locks, and last ``tweakio-bundle-1.sha256``: the format's version by its
name, and the SHA-256 of each file as ``sha256sum -c`` takes them.

``content`` says which files are in one, ``names`` which names may be, ``tar`` knows the format;
``writing`` and ``reading`` are the two ways, ``copying`` does without a stream. ``files`` reads
and writes the files on the disk, and ``filters`` lets the steps between run beside each other.
``foreign`` cleans what came from elsewhere.

Memory does not grow with the size of the files: pieces of a megabyte go through.
"""

from tweakio.bundle.content import content_size, user_data_files
from tweakio.bundle.copying import copy_contents, copy_files
from tweakio.bundle.filters import Counted, Filter, piped_from, piped_into
from tweakio.bundle.foreign import clean, told
from tweakio.bundle.names import MOST_FILES, folded, refuse_path
from tweakio.bundle.reading import check_names, read_bundle
from tweakio.bundle.tar import FORMAT, LEVEL, BundleInfo
from tweakio.bundle.writing import write_bundle

__all__ = [
    "FORMAT",
    "LEVEL",
    "MOST_FILES",
    "BundleInfo",
    "Counted",
    "Filter",
    "check_names",
    "clean",
    "content_size",
    "copy_contents",
    "copy_files",
    "folded",
    "piped_from",
    "piped_into",
    "read_bundle",
    "refuse_path",
    "told",
    "user_data_files",
    "write_bundle",
]
