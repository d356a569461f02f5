"""Reads PyTorch's weights from safetensors files, and recognizes those it pickled."""

import pathlib
import zipfile

import numpy as np
from jaxtyping import Float32

from cifar_jax.errors import UserError
from cifar_jax.models import safetensors_files
from cifar_jax.models.variables import check_finite

# BatchNorm's number of training steps, which nothing depends on.
_COUNTS = ".num_batches_tracked"
# How pickles begin, in all protocols since 2, before the number of the protocol.
_PICKLE = b"\x80"
_PROTOCOLS = range(2, 6)


def read(path: pathlib.Path) -> dict[str, Float32[np.ndarray, "..."]]:
    """Reads the tensors of a state dict, by name.

    Raises:
        UserError: the file cannot be read, is damaged, or has values that are not
            finite or not float32, float16, or bfloat16.
    """
    with safetensors_files.opened(path) as file:
        names = [name for name in sorted(file.keys()) if not name.endswith(_COUNTS)]
        tensors = {name: safetensors_files.array(file, name) for name in names}
        check_finite(tensors, "it")
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def refuse_pickles(path: pathlib.Path) -> None:
    """Raises UserError if torch.save wrote a file, whatever its name is.

    Reading a pickle can run any code. A file that cannot be opened is left to whoever
    reads it.
    """
    try:
        is_pickled = path.is_file() and _is_pickled(path)
    except (OSError, ValueError, zipfile.BadZipFile):
        return
    if is_pickled:
        raise UserError(
            f"{path} is a file of torch.save, which is a program as much as data, and "
            "is not read; where PyTorch is installed, convert it with safetensors."
            f"torch.save_file(torch.load({path.name!r}, weights_only=True), "
            f"{path.stem + '.safetensors'!r})"
        )


def _is_pickled(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            names = zipfile.ZipFile(file).namelist()
            return any(name.split("/")[-1] == "data.pkl" for name in names)
        file.seek(0)
        first = file.read(3)
    # A safetensors file can begin with the same two bytes, a size, but not with three.
    return first[:1] == _PICKLE and first[1] in _PROTOCOLS and first[2:] != b"\0"
