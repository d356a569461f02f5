"""Your own arrays: a NumPy file with the four that `load_data` in Keras returns."""

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from cifar_jax.data.cifar.cifar10 import LABELS, OFFICIAL
from cifar_jax.data.dataset import Dataset
from cifar_jax.data.failure import reason
from cifar_jax.data.split import Split
from cifar_jax.errors import UserError

# A small file can claim to have arrays that would fill the memory.
MAX_BYTES = 1 << 36
_NAMES = ("x_train", "y_train", "x_test", "y_test")


def load(data_dir: str | os.PathLike[str] | None) -> Dataset:
    """Loads the images in a .npz file, in its order.

    The file has `x_train`, `y_train`, `x_test` and `y_test`, as `numpy.savez` writes
    them: images as bytes, n x height x width x 3 or, in grayscale, n x height x width;
    labels as integers from 0 up, of shape n or n x 1, or -1 for training images without
    a label. It may also have `class_names`.

    Args:
        data_dir: the file, or a folder with one such file.

    Raises:
        UserError: there is no such file, or its arrays are not like that.
    """
    path = _file(data_dir)
    try:
        arrays = _read(path)
        train, test = (
            Split(_images(arrays, f"x_{split}"), _labels(arrays, f"y_{split}"))
            for split in ("train", "test")
        )
        count = 1 + max(int(split.labels.max()) for split in (train, test))
        names = _class_names(arrays, count)
        return _dataset(train, test, names, path)
    except UserError:
        raise
    except Exception as error:  # parsers can raise almost anything on hostile input
        raise UserError(f"{path} cannot be used: {reason(error)}") from error


def _file(data_dir: str | os.PathLike[str] | None) -> Path:
    if not data_dir:
        raise UserError("--dataset=npz needs --data_dir, a .npz file or its folder")
    path = Path(data_dir).expanduser()
    if not path.is_dir():
        if not path.is_file():  # reading a FIFO would block forever
            raise UserError(f"--data_dir={path} is neither a .npz file nor a folder")
        return path
    found = sorted(path.glob("*.npz"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise UserError(
            f"--data_dir={path} must have exactly one .npz file, not {names}; pass the "
            "file itself"
        )
    return found[0]


def _read(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as packed:
        size = sum(member.file_size for member in packed.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"it unpacks to {size:,} bytes")
    with np.load(path, allow_pickle=False) as file:
        if missing := [name for name in _NAMES if name not in file.files]:
            raise ValueError(
                f"it has no {' and no '.join(missing)}, but "
                f"{', '.join(file.files) or 'nothing'}; save it with numpy.savez(FILE, "
                "x_train=..., y_train=..., x_test=..., y_test=...)"
            )
        return {
            name: file[name] for name in (*_NAMES, "class_names") if name in file.files
        }


def _images(arrays: dict[str, np.ndarray], name: str) -> UInt8[np.ndarray, "n h w c"]:
    images = arrays[name]
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or not images.size:
        raise ValueError(
            f"{name} is {images.dtype} {images.shape}; bytes from 0 to 255 are needed"
        )
    if images.ndim == 3:
        return np.repeat(images[..., None], 3, axis=-1)
    if images.ndim != 4 or images.shape[3] != 3:
        way = "; write x.transpose(0, 2, 3, 1)" if images.shape[1:2] == (3,) else ""
        raise ValueError(
            f"{name} has shape {images.shape}, not (n, height, width, 3){way}"
        )
    return images


def _labels(arrays: dict[str, np.ndarray], name: str) -> Integer[np.ndarray, " n"]:
    labels, images = arrays[name], arrays[name.replace("y", "x")]
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise ValueError(
            f"{name} has shape {labels.shape}, not ({len(images)},), one label for "
            "each image"
        )
    lowest = -1 if name == "y_train" else 0
    if labels.dtype.kind not in "iu" or labels.min() < lowest:
        more = ", or -1 for images without a label" if lowest else ""
        raise ValueError(f"{name} must have integers from 0 up{more}")
    return labels.reshape(-1).astype(np.int32)


def _class_names(arrays: dict[str, np.ndarray], count: int) -> tuple[str, ...]:
    """Returns the class names in the file, or numbers if it has none."""
    if "class_names" not in arrays:
        return tuple(map(str, range(count)))
    names = tuple(map(str, arrays["class_names"].reshape(-1)))
    if len(names) < count or len(set(names)) < len(names):
        raise ValueError(f"class_names has {len(names)} names, but there are {count}")
    return names


def _dataset(
    train: Split, test: Split, class_names: tuple[str, ...], path: Path
) -> Dataset:
    dataset = Dataset.create(
        "npz", train, test, class_names=class_names, source=f"the arrays in {path}"
    )
    if dataset.fingerprint != OFFICIAL.ordered:
        return dataset
    return dataclasses.replace(
        dataset,
        class_names=LABELS.class_names,
        source=f"official CIFAR-10, from {path}",
        official=True,
    )
