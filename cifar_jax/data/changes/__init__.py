"""Changes of a data set, by name: which images and labels a run is trained on."""

from cifar_jax.data.changes.base import Change
from cifar_jax.data.changes.images import Classes, LongTail, Sample
from cifar_jax.data.changes.labels import AsymmetricNoise, HideLabels, LabelNoise
from cifar_jax.data.dataset import Dataset, check_dataset
from cifar_jax.registry import Registry, resolve_all

__all__ = [
    "DATA_CHANGES",
    "AsymmetricNoise",
    "Change",
    "Classes",
    "HideLabels",
    "LabelNoise",
    "LongTail",
    "Sample",
    "apply",
]

DATA_CHANGES: Registry[Change] = Registry(
    Change,
    {
        "classes": Classes,
        "sample": Sample,
        "long_tail": LongTail,
        "label_noise": LabelNoise,
        "asymmetric_noise": AsymmetricNoise,
        "hide_labels": HideLabels,
    },
)


def apply(dataset: Dataset, text: str) -> Dataset:
    """Returns the data set after changes that a text lists, in this order.

    Raises:
        UserError: the text is not a list of changes, or one of them is impossible.
    """
    for change in resolve_all(text, DATA_CHANGES, "data_changes"):
        dataset = change(dataset)
        check_dataset(dataset)
    return dataset
