"""Describes how many training images each class has."""

from collections.abc import Iterator

from cifar_jax.data.dataset import Dataset

# More classes than this are not listed individually.
_LISTED = 10
# Above this ratio between the largest and the smallest class, there is a notice.
_UNEVEN = 3
# These are balanced and need no description.
_KNOWN = ("cifar10", "cifar100", "digits")


def describe(dataset: Dataset, loss: str) -> Iterator[str]:
    """Yields lines about the number of training images in each class.

    There are none for CIFAR and the stand-in, unless these are unbalanced too.

    Args:
        dataset: the data.
        loss: the training loss, as --loss names it.
    """
    counts, names = dataset.class_counts, dataset.class_names
    by_count = sorted(zip(counts, names, strict=True))
    (fewest, rarest), (most, commonest) = by_count[0], by_count[-1]
    uneven = most > _UNEVEN * fewest
    if unlabeled := len(dataset.train) - sum(counts):
        yield f"training images without a label: {unlabeled:,}"
    if dataset.name in _KNOWN and not uneven:
        return
    if len(names) <= _LISTED:
        each = zip(names, counts, strict=True)
        words = ", ".join(f"{name} {count:,}" for name, count in each)
    else:
        words = f"from {fewest:,} ({rarest}) to {most:,} ({commonest})"
    yield f"training images per class: {words}"
    if uneven and "balanced(" not in loss:
        yield (
            f"notice: {commonest} has more than {_UNEVEN} times as many training "
            f'images as {rarest}; --loss="balanced({loss})" gives all classes the same '
            "weight, and so does eval --eval_metrics=balanced_accuracy"
        )
