"""Profiles of what other programs keep (docs/importing.md).

Each function gives ``Incoming`` records, which ``manager.archives.bring_in`` makes profiles of,
and ``check`` only looks at. The source is read and never changed.
"""

from tweakio.importing.homes import from_camouchat_home, from_sdk_home
from tweakio.importing.several import from_csv, from_folder
from tweakio.importing.storage_state import from_storage_state
from tweakio.importing.user_data import from_user_data_dir

__all__ = [
    "from_camouchat_home",
    "from_csv",
    "from_folder",
    "from_sdk_home",
    "from_storage_state",
    "from_user_data_dir",
]
