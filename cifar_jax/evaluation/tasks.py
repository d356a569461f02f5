"""What the eval command evaluates: images, and what to say about them."""

import dataclasses

from cifar_jax import data
from cifar_jax.data import Dataset
from cifar_jax.data.cifar import cifar10, robustness
from cifar_jax.data.cifar.published import IMAGE_SHAPE
from cifar_jax.data.cifar.robustness import CorruptedImages
from cifar_jax.data.split import ImageSet, Split
from cifar_jax.errors import UserError
from cifar_jax.runs.run_dir import Run


@dataclasses.dataclass(frozen=True)
class Task:
    """What to evaluate.

    Attributes:
        images: the images of a split or a test set.
        count: how many of them to use, from the first; for CIFAR-10-C, of each
            corruption and severity.
        notice: about the images, shown before and after the results, or None.
        warning: about the data that the run was trained on, or None.
        has_other_data: whether they are a split of other data than the run's own.
    """

    images: ImageSet | CorruptedImages
    count: int
    notice: str | None
    warning: str | None
    has_other_data: bool

    @property
    def image_set(self) -> ImageSet:
        """The images, which are not CIFAR-10-C's."""
        assert isinstance(self.images, ImageSet)
        return self.images

    def part(self) -> Split:
        """Returns the images to use of a split, with their labels in memory."""
        split = self.image_set.split
        whole = dataclasses.replace(split, labels=split.labels[:])
        return whole.part(0, self.count)


def read(
    run: Run, eval_data: str, data_dir: str | None, num_examples: int | None
) -> Task:
    """Returns what to evaluate for a run.

    Args:
        run: the run.
        eval_data: the name of a split, or of a test set in `robustness.SETS`.
        data_dir: the folder of the data.
        num_examples: how many images to use; None for all.

    Raises:
        UserError: the images cannot be read, or are not for the run's network.
    """
    images: ImageSet | CorruptedImages
    warning, has_other_data = None, False
    if eval_data in robustness.SETS:
        expected = (cifar10.LABELS.class_names, IMAGE_SHAPE)
        if (run.class_names, run.image_shape) != expected:
            raise UserError(
                f"--eval_data={eval_data} is for networks trained on CIFAR-10, "
                f"but {run.path} was trained on {run.data_source}; pass the "
                "--checkpoint_dir of a run with --dataset=cifar10"
            )
        images = robustness.SETS[eval_data](data_dir)
        if run.test_fingerprint != cifar10.OFFICIAL.ordered:
            warning = f"warning: not trained on official CIFAR-10: {run.data_source}"
    else:
        dataset = data.load(
            run.config.dataset,
            data_dir,
            run.config.validation_size,
            run.value_range,
            **run.config.data_options,
        )
        if len(dataset.class_names) != len(run.class_names):
            raise UserError(
                f"{run.path} was trained on {len(run.class_names)} classes of "
                f"{run.data_source}, but {dataset.source} has "
                f"{len(dataset.class_names)}; from Python, call evaluate() with its "
                "own images"
            )
        has_other_data = _is_other(run, dataset, eval_data)
        if has_other_data:
            warning = f"warning: trained on other images or labels: {run.data_source}"
        images = ImageSet(
            dataset.split(eval_data),
            dataset.source,
            dataset.fingerprint if has_other_data else run.data_fingerprint,
            dataset.notice,
        )
    count = min(num_examples or len(images), len(images))
    notice = images.notice if isinstance(images, ImageSet) else None
    return Task(images, count, notice, warning, has_other_data)


def _is_other(run: Run, dataset: Dataset, split: str) -> bool:
    """Returns whether the evaluated split is not the one of the run's own data.

    If the training images of a run were chosen in Python, only they are unknown here.
    """
    if split == "train_eval":
        return run.data_fingerprint != dataset.fingerprint
    return run.test_fingerprint != dataset.test_fingerprint
