"""The user's cache directory, which may be deleted at any time."""

import os
import pathlib


def user_cache() -> pathlib.Path:
    """Returns this package's directory in the user's cache, which may not exist yet.

    It follows the XDG Base Directory Specification on every platform.

    Raises:
        RuntimeError: there is no home directory.
    """
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "cifar_jax"
