"""Reads Keras weight files with h5py, without Keras."""

import contextlib
import io
import json
import mmap
import pathlib
import zipfile
from typing import Any

from cifar_jax import extras
from cifar_jax.checks import check_regular_file
from cifar_jax.console import to_one_line
from cifar_jax.errors import UserError
from cifar_jax.models.keras import damage, named_files, numbered_files
from cifar_jax.models.keras.layer import Layer

# The files in a .keras file, which is an archive.
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
# Bytes that a file in an archive may always have, and how many times as large as the
# archive weights may be, which hardly compress.
_ALWAYS_READ = 16 << 20
_MOST_COMPRESSION = 10


def read(path: str | pathlib.Path) -> list[Layer]:
    """Reads the layers with weights of a .weights.h5, .h5 or .keras file.

    Raises:
        UserError: h5py is not installed; the file does not exist, is damaged, or has no
            Keras weights; or a layer is of an unknown kind.
    """
    path = check_regular_file(path)
    extras.require(f"reading {path}", "weights", "h5py")
    import h5py

    try:
        with contextlib.ExitStack() as stack:
            contents, config = _contents(path)
            file = stack.enter_context(h5py.File(contents, "r"))
            _check_heaps(contents)
            if (link := file.visititems_links(_link)) is not None:
                raise UserError(
                    f"its {link} is a link to another place, which is not followed; "
                    "Keras writes no such links"
                )
            if (name := damage.find_shared(file)) is not None:
                raise UserError(f"it is damaged: {name} shares bytes with others")
            if named_files.is_named_file(file):
                layers = named_files.layers(file, path.name)
            else:
                layers = numbered_files.layers(file, config)
    except UserError as error:
        raise UserError(to_one_line(f"{path}: {error}")) from None
    except MemoryError:
        raise UserError(
            f"{path} does not fit into the memory of this machine"
        ) from None
    # h5py and zipfile raise many kinds of errors when a file is damaged.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            to_one_line(f"{path} is damaged, or not a Keras weights file: {reason}")
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
            # By their last parts, as Windows programs pack them with backslashes.
            names = {
                name.replace("\\", "/").split("/")[-1]: name
                for name in archive.namelist()
            }
            most = max(_ALWAYS_READ, _MOST_COMPRESSION * path.stat().st_size)
            weights = _part(archive, names.get(_WEIGHTS, _WEIGHTS), most)
            config = b"{}"
            if _CONFIG in names:
                config = _part(archive, names[_CONFIG], _ALWAYS_READ)
    return io.BytesIO(weights), json.loads(config)


def _part(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Returns a file in an archive; raises UserError if it is larger than `most`."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise UserError(
            f"its {name} would have {size:,} bytes; at most {most:,} are read from an "
            "archive of this size"
        )
    return archive.read(name)


def _check_heaps(contents: pathlib.Path | io.BytesIO) -> None:
    """Raises UserError if HDF5 would read the file forever."""
    if isinstance(contents, io.BytesIO):
        endless = damage.is_endless(contents.getvalue())
    else:
        with (
            contents.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            endless = damage.is_endless(mapped)
    if endless:
        raise UserError("it is damaged: part of its text is zeroed")


def _link(name: str, link: Any) -> str | None:
    """Returns the name of a link to another place, which may be another file."""
    import h5py

    return None if isinstance(link, h5py.HardLink) else name
