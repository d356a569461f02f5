"""Small copies of CIFAR-10.1 and CIFAR-10-C in the layout of the published files."""

import io
import math
import pathlib
import tarfile

import numpy as np

from cifar_jax.data.cifar import robustness

IMAGES = 6  # of CIFAR-10.1, and of each corruption and severity
NAMES = ("cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy")
CORRUPTIONS = [
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
    *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
    *("elastic_transform", "pixelate", "jpeg_compression"),
    *("speckle_noise", "gaussian_blur", "spatter", "saturate"),
]


def expect_few_images(monkeypatch) -> None:
    monkeypatch.setattr(robustness, "CIFAR10_1_IMAGES", IMAGES)
    monkeypatch.setattr(robustness, "CIFAR10_C_IMAGES", IMAGES)


def images(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 32, 32, 3), np.uint8)


def cifar10_1() -> dict[str, np.ndarray]:
    labels = np.random.default_rng(1).integers(0, 10, IMAGES, np.int32)
    return dict(zip(NAMES, (images(IMAGES, 0), labels), strict=True))


def cifar10_c() -> dict[str, np.ndarray]:
    """Returns the arrays by name; labels repeat for each of the five severities."""
    arrays = {name: images(5 * IMAGES, i) for i, name in enumerate(CORRUPTIONS)}
    labels = np.random.default_rng(1).integers(0, 10, IMAGES, np.uint8)
    return arrays | {"labels": np.tile(labels, 5)}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_cifar10_1(data_dir: pathlib.Path) -> None:
    for name, array in cifar10_1().items():
        np.save(data_dir / name, array)


def write_folder(data_dir: pathlib.Path) -> pathlib.Path:
    folder = data_dir / "CIFAR-10-C"
    folder.mkdir()
    for name, array in cifar10_c().items():
        np.save(folder / f"{name}.npy", array)
    return folder


def write_archive(data_dir: pathlib.Path) -> pathlib.Path:
    path = data_dir / "CIFAR-10-C.tar"
    with tarfile.open(path, "w") as archive:
        for name, array in cifar10_c().items():
            add_member(archive, f"CIFAR-10-C/{name}.npy", npy(array))
    return path


def add_member(archive: tarfile.TarFile, name: str, contents: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(contents)
    archive.addfile(member, io.BytesIO(contents))


def write_sparse_archive(path: pathlib.Path) -> None:
    """Writes CIFAR-10-C at its real size; black images take no disk space."""
    shapes = dict.fromkeys(CORRUPTIONS, (50_000, 32, 32, 3)) | {"labels": (50_000,)}
    folder = tarfile.TarInfo("CIFAR-10-C")
    folder.type = tarfile.DIRTYPE
    with path.open("wb") as file:
        file.write(folder.tobuf())
        for name, shape in shapes.items():
            head = npy_header(shape)
            member = tarfile.TarInfo(f"CIFAR-10-C/{name}.npy")
            member.size = len(head) + math.prod(shape)
            file.write(member.tobuf() + head)
            file.seek(member.size - len(head) + -member.size % tarfile.BLOCKSIZE, 1)
        file.truncate(file.tell() + 2 * tarfile.BLOCKSIZE)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Returns the header of a .npy file of bytes."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()
