"""Reads Keras's weight files by h5py, without Keras."""

import contextlib
import io
import json
import pathlib
import zipfile
from typing import Any

from cifar_jax.errors import UserError
from cifar_jax.models.keras import named_files, numbered_files
from cifar_jax.models.keras.layer import Layer

# In the archive that a .keras file is.
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"


def read(path: str | pathlib.Path) -> list[Layer]:
    """Reads the layers with weights of a .weights.h5, .h5 or .keras file.

    Raises:
        UserError: h5py is not installed; the file does not exist, is damaged, or has no
            weights of Keras; or a layer is of an unknown kind.
    """
    path = pathlib.Path(path)
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"reading {path} needs h5py: pip install 'cifar-jax[weights]'"
        ) from None
    try:
        with contextlib.ExitStack() as stack:
            contents, config = _contents(path)
            file = stack.enter_context(h5py.File(contents, "r"))
            if named_files.is_one(file):
                layers = named_files.layers(file, path.name)
            else:
                layers = numbered_files.layers(file, config)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a directory, not a file of weights") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # h5py and zipfile raise many kinds of errors when a file is damaged.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged, or not a weights file of Keras: {reason}"
        ) from None
    if not layers:
        raise UserError(f"{path} has no weights of Keras layers")
    return layers


def _contents(
    path: pathlib.Path,
) -> tuple[pathlib.Path | io.BytesIO, dict[str, Any]]:
    """Returns the HDF5 file and the model's config; those in a .keras archive."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            return path, {}
        with zipfile.ZipFile(file) as archive:
            # By their last names, as programs for Windows pack them with backslashes.
            names = {
                name.replace("\\", "/").split("/")[-1]: name
                for name in archive.namelist()
            }
            weights = archive.read(names.get(_WEIGHTS, _WEIGHTS))
            config = archive.read(names[_CONFIG]) if _CONFIG in names else b"{}"
    return io.BytesIO(weights), json.loads(config)
