"""Describes data sets of the CIFAR family as they were published."""

import dataclasses

import numpy as np
from jaxtyping import Integer

from cifar_jax.data.cifar.batch_files import Format
from cifar_jax.data.cifar.download import Download

IMAGE_SHAPE = (32, 32, 3)
HOME_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the files with images, in any layout.

    Attributes:
        stem: its name without the suffix.
        records: number of images.
    """

    stem: str
    records: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """One of the archives in which a data set is published.

    Attributes:
        archive: its name.
        folder: the folder in it.
        format: format of the files in that folder.
    """

    archive: str
    folder: str
    format: Format

    @property
    def stem(self) -> str:
        """The archive's name without its suffixes."""
        return self.archive.removesuffix(".tar.gz")

    def file(self, part: Part) -> str:
        """Returns the name that a part has in this layout."""
        return part.stem + self.format.suffix


@dataclasses.dataclass(frozen=True)
class Labels:
    """One of the kinds of labels that every image has.

    Attributes:
        key: the name in python and MATLAB files.
        feature: the name in TFDS.
        class_names: the name of each label.
    """

    key: str
    feature: str
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """Official data's `fingerprint` and `unordered_fingerprint`; see dataset.py."""

    ordered: str
    unordered: str


@dataclasses.dataclass(frozen=True)
class RecordsMD5:
    """Official data's `Records.md5` of the training and test records."""

    train: str
    test: str


@dataclasses.dataclass(frozen=True)
class Published:
    """A data set of the CIFAR family.

    Attributes:
        name: the value of --dataset, which is also the name in TFDS.
        title: its name in messages.
        train: the files of the training images, in order.
        test: the files of the test images.
        labels: the kinds of labels, in the order of the binary records.
        layouts: the archives; the first one is binary.
        url: address of the binary archive.
        size: size of the binary archive in bytes.
        sha256: checksum of the binary archive.
        mirrors: archives on other servers, for when the official one fails.
        official: what identifies the official data.
    """

    name: str
    title: str
    train: tuple[Part, ...]
    test: tuple[Part, ...]
    labels: tuple[Labels, ...]
    layouts: tuple[Layout, ...]
    url: str
    size: int
    sha256: str
    mirrors: tuple[Download, ...]
    official: Fingerprints | RecordsMD5

    @property
    def download(self) -> Download:
        """The binary archive as a file to download."""
        return Download(
            url=self.url,
            size=self.size,
            sha256=self.sha256,
            name=self.binary.archive,
            title=self.title,
            home_page=HOME_PAGE,
        )

    @property
    def binary(self) -> Layout:
        """The layout that is downloaded."""
        return self.layouts[0]

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of training and test images."""
        train, test = (
            sum(part.records for part in parts) for parts in (self.train, self.test)
        )
        return train, test

    def check_labels(self, labels: Integer[np.ndarray, "n kinds"]) -> None:
        """Raises ValueError unless all labels are valid."""
        for kind, column in zip(self.labels, labels.T, strict=True):
            last = len(kind.class_names) - 1
            if column.min() < 0 or column.max() > last:
                raise ValueError(
                    f"{kind.key} range from {column.min()} to {column.max()}, "
                    f"not 0-{last}"
                )
