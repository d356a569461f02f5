"""What there is to train on of each class, in words."""

from collections.abc import Iterator

from cifar_jax.data.dataset import Dataset

# More classes than this are not listed one by one.
_LISTED = 10
# The largest class has so many times the images of the smallest before it is a notice.
_UNEVEN = 3
# Every reader knows what is in these, which are even.
_KNOWN = ("cifar10", "cifar100", "digits")


def describe(dataset: Dataset, loss: str) -> Iterator[str]:
    """Yields lines on the number of training images of each class.

    There is none on CIFAR and the stand-in, unless they are uneven as well.

    Args:
        dataset: the data.
        loss: of the training, as --loss names it.
    """
    counts, names = dataset.class_counts, dataset.class_names
    by_count = sorted(zip(counts, names, strict=True))
    (fewest, rarest), (most, commonest) = by_count[0], by_count[-1]
    uneven = most > _UNEVEN * fewest
    if dataset.name in _KNOWN and not uneven:
        return
    if len(names) <= _LISTED:
        each = zip(names, counts, strict=True)
        words = ", ".join(f"{name} {count:,}" for name, count in each)
    else:
        words = f"from {fewest:,} ({rarest}) to {most:,} ({commonest})"
    yield f"training images of each class: {words}"
    if uneven and "balanced(" not in loss:
        yield (
            f"notice: {commonest} has more than {_UNEVEN} times as many training "
            f'images as {rarest}; --loss="balanced({loss})" gives all classes the same '
            "weight, and eval --eval_metrics=balanced_accuracy does so too"
        )
