"""Test sets for networks trained on CIFAR-10: CIFAR-10.1 and CIFAR-10-C.

CIFAR-10.1 v6 has 2,000 new photographs, chosen the way those of CIFAR-10 were: B. Recht
et al., "Do CIFAR-10 classifiers generalize to CIFAR-10?", 2018, arXiv:1806.00451.

CIFAR-10-C has the test images of CIFAR-10 with each of 19 corruptions at five
severities: D. Hendrycks and T. Dietterich, "Benchmarking neural network robustness to
common corruptions and perturbations", 2019, arXiv:1903.12261.

Both are .npy files from the internet, so nothing in them is trusted: nothing is
unpickled or extracted to disk, nothing beyond the published arrays is read, and types,
shapes and labels are checked.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Integer

from cifar_jax.data.cifar import archives, cifar10, download, npy_files
from cifar_jax.data.cifar import source as cifar
from cifar_jax.data.cifar.download import Download
from cifar_jax.data.cifar.npy_files import NpyArray
from cifar_jax.data.cifar.published import IMAGE_SHAPE
from cifar_jax.data.failure import reason
from cifar_jax.data.split import ImageSet, Split, fingerprint
from cifar_jax.errors import UserError

# Papers average over these.
BENCHMARK = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
# The last four are meant for validation.
CORRUPTIONS = (*BENCHMARK, "speckle_noise", "gaussian_blur", "spatter", "saturate")
SEVERITIES = (1, 2, 3, 4, 5)

CIFAR10_1_IMAGES = 2_000
CIFAR10_C_IMAGES = 10_000  # per corruption and severity

# TensorFlow Datasets has the same addresses, sizes and checksums.
CIFAR10_1 = tuple(
    Download(
        url="https://github.com/modestyachts/CIFAR-10.1/blob/master/datasets/"
        f"{name}?raw=true",
        size=size,
        sha256=sha256,
        name=name,
        title="CIFAR-10.1",
        home_page="https://github.com/modestyachts/CIFAR-10.1",
    )
    for name, size, sha256 in (
        (
            "cifar10.1_v6_data.npy",
            6_144_128,
            "2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6",
        ),
        (
            "cifar10.1_v6_labels.npy",
            8_128,
            "ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448",
        ),
    )
)
CIFAR10_C = Download(
    url="https://zenodo.org/record/2535967/files/CIFAR-10-C.tar",
    size=2_918_471_680,
    sha256="c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
    name="CIFAR-10-C.tar",
    title="CIFAR-10-C",
    home_page="https://zenodo.org/records/2535967",
)
_FOLDER = "CIFAR-10-C"

# Where a .npy file is: the arguments of `npy_files.locate`.
_Place = tuple[Path, int, int | None]


@dataclasses.dataclass(frozen=True)
class CorruptedImages:
    """CIFAR-10-C on disk; images are read on demand.

    Attributes:
        source: where it is, in words.
        pixels: the images of each corruption at all severities, mildest first.
        labels: the labels of one corruption's images, from 0 to 9.
    """

    source: str
    pixels: dict[str, NpyArray]
    labels: Integer[np.ndarray, " n"]

    def __len__(self) -> int:
        """Returns the number of images of each corruption and severity."""
        return len(self.labels) // len(SEVERITIES)

    def split(self, corruption: str, severity: int, count: int) -> Split:
        """Reads the first images of a corruption at a severity, and no others.

        Args:
            corruption: one of CORRUPTIONS.
            severity: one of SEVERITIES.
            count: number of images, at most len(self).

        Raises:
            UserError: they can no longer be read.
        """
        start = (severity - 1) * len(self)
        pixels = self.pixels[corruption]
        with _reading(pixels.path, CIFAR10_C):
            images = pixels.read(start, start + count)
        return Split(images, self.labels[start : start + count])


def load_cifar10_1(data_dir: str | os.PathLike[str] | None) -> ImageSet:
    """Loads CIFAR-10.1 v6 from disk, or downloads it.

    Args:
        data_dir: directory of its two files; None for TFDS's default.

    Raises:
        UserError: data_dir cannot be used, the files are damaged, or they are neither
            on disk nor reachable.
        RunError: the download failed midway.
    """
    directory = cifar.data_directory(data_dir)
    paths = _obtain(CIFAR10_1, directory)
    images_path, labels_path = paths
    with _reading(images_path, CIFAR10_1[0]):
        images = _images((images_path, 0, None), CIFAR10_1_IMAGES)
        pixels = images.read(0, CIFAR10_1_IMAGES)
    with _reading(labels_path, CIFAR10_1[1]):
        labels = _labels((labels_path, 0, None), CIFAR10_1_IMAGES)
    split = Split(pixels, labels)
    found = ImageSet(split, f"CIFAR-10.1 v6, from {directory}", fingerprint(split))
    if all(
        hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
        for path, file in zip(paths, CIFAR10_1, strict=True)
    ):
        return dataclasses.replace(found, source=f"official {found.source}")
    return dataclasses.replace(
        found,
        notice=f"{' and '.join(map(str, paths))} are not the official CIFAR-10.1 v6.\n"
        "Compare its results only with those of the same data, "
        f"fingerprint {found.fingerprint[:16]}.",
    )


def open_cifar10_c(data_dir: str | os.PathLike[str] | None) -> CorruptedImages:
    """Opens CIFAR-10-C: its archive, downloaded if needed, or its unpacked folder.

    Args:
        data_dir: directory of CIFAR-10-C.tar or of the folder CIFAR-10-C; None for
            TFDS's default.

    Raises:
        UserError: data_dir cannot be used, part of CIFAR-10-C is damaged or missing, or
            it is neither on disk nor reachable.
        RunError: the download failed midway.
    """
    directory = cifar.data_directory(data_dir)
    path = directory / _FOLDER
    if _is_there(directory / CIFAR10_C.name) or not _is_there(path):
        (path,) = _obtain((CIFAR10_C,), directory)
    with _reading(path, CIFAR10_C):
        places = _find_in_folder(path) if path.is_dir() else _find_in_archive(path)
    missing = [name for name in (*CORRUPTIONS, "labels") if name not in places]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(f'{name}.npy' for name in missing)}; get a "
            f"fresh copy of {CIFAR10_C.name} from {CIFAR10_C.home_page}"
        )
    count = len(SEVERITIES) * CIFAR10_C_IMAGES
    pixels = {}
    for name in CORRUPTIONS:
        with _reading(path / f"{name}.npy", CIFAR10_C):
            pixels[name] = _images(places[name], count)
    with _reading(path / "labels.npy", CIFAR10_C):
        labels = _labels(places["labels"], count)
    return CorruptedImages(f"CIFAR-10-C, from {path}", pixels, labels)


# Keyed by the values of --eval_data.
SETS: dict[str, Callable[..., ImageSet | CorruptedImages]] = {
    "cifar10.1": load_cifar10_1,
    "cifar10-c": open_cifar10_c,
}


def _obtain(files: Sequence[Download], directory: Path) -> list[Path]:
    """Returns the paths of a data set's files, downloading those that are missing.

    Raises:
        UserError: they are neither on disk nor reachable, or cannot be written.
        RunError: the download failed midway.
    """
    paths = [directory / file.name for file in files]
    if all(map(_is_there, paths)):
        return paths
    title, url = files[0].title, files[0].url
    if problem := download.why_unreachable(url):
        raise UserError(
            f"{title} is not in {directory}, and {url} cannot be reached ({problem}); "
            f"put {' and '.join(file.name for file in files)} (from "
            f"{files[0].home_page}) into {directory}, or name its directory with "
            "--data_dir"
        )
    megabytes = math.ceil(sum(file.size for file in files) / 1e6)
    with download.lock(directory, title, megabytes):
        for file, path in zip(files, paths, strict=True):
            if not _is_there(path):  # another run may have been faster
                download.fetch(file, directory)
    return paths


def _is_there(path: Path) -> bool:
    try:
        return archives.is_there(path)
    except (OSError, ValueError) as error:
        raise cifar.explain_unreadable(path.parent, error) from error


def _find_in_folder(path: Path) -> dict[str, _Place]:
    """Returns the place of each .npy file in a folder."""
    return {file.stem: (file, 0, None) for file in path.glob("*.npy")}


def _find_in_archive(path: Path) -> dict[str, _Place]:
    """Returns the place of each .npy file in an archive."""
    if not path.is_file():  # opening a FIFO would block forever
        raise ValueError("it is not a regular file")
    with tarfile.open(path, "r:") as archive:
        return {
            name.stem: (path, member.offset_data, member.size)
            for member in archive
            if (name := PurePosixPath(member.name)).parent == PurePosixPath(_FOLDER)
            and name.suffix == ".npy"
            # The contents of links and sparse files are elsewhere.
            and member.isreg()
            and not member.issparse()
        }


def _images(place: _Place, count: int) -> NpyArray:
    """Finds images without reading them."""
    array = npy_files.locate(*place)
    shape = (count, *IMAGE_SHAPE)
    if array.dtype != np.uint8 or array.shape != shape:
        raise ValueError(f"it has {array.dtype} {array.shape}, not uint8 {shape}")
    return array


def _labels(place: _Place, count: int) -> Integer[np.ndarray, " n"]:
    """Reads labels."""
    array = npy_files.locate(*place)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise ValueError(f"it has {array.dtype} {array.shape}, not integers {(count,)}")
    labels = array.read(0, count)
    if labels.min() < 0 or labels.max() >= len(cifar10.LABELS.class_names):
        raise ValueError(f"labels range from {labels.min()} to {labels.max()}, not 0-9")
    return labels.astype(np.int32)


@contextlib.contextmanager
def _reading(path: Path, file: Download) -> Iterator[None]:
    """Turns any error in reading part of a published file into a UserError."""
    try:
        yield
    except Exception as error:  # parsers can raise almost anything on hostile input
        raise UserError(
            f"{path} cannot be read as {file.title}: {reason(error)}; get a fresh copy "
            f"of {file.name} from {file.home_page}"
        ) from error
