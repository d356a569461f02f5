"""What does each type of augmentation contribute?

    python -m experiments.course.augmentation --data_dir=DIR --max_steps=5000

cuda-convnet's test error is 18% without augmentation and 11% with it. This trains the
tutorial's network with all its augmentations, without each of them, and without any.
Prints a table of precision on the test images and on the training images, and writes
augmentation.json, .csv and .png to --results_dir. Augmentation slows early learning and
pays off late, when a network without it has memorized its images, so the answer depends
on --max_steps. An interrupted experiment resumes where it left off. Takes about 2
minutes per 1,000 steps on 2 cores, with 6 runs per seed.
"""

from typing import Any

from matplotlib.figure import Figure

from experiments.harness import common, studies
from experiments.harness.studies import Variant

DISTORTIONS = {
    "all distortions": "crop, flip, brightness(63), contrast(0.8)",
    "no random crop": "center_crop, flip, brightness(63), contrast(0.8)",
    "no random flip": "crop, brightness(63), contrast(0.8)",
    "no brightness": "crop, flip, contrast(0.8)",
    "no contrast": "crop, flip, brightness(63)",
    "none": "center_crop",
}
VARIANTS = [Variant(name, {"distortions": text}) for name, text in DISTORTIONS.items()]


def draw(record: dict[str, Any]) -> Figure:
    """Draws the study."""
    title = "What does each type of augmentation contribute?"
    return studies.draw(record, title)


def main(argv: list[str]) -> None:
    """Runs the study and saves its results."""
    del argv
    record = studies.run(VARIANTS)
    studies.keep("augmentation", record, draw)


if __name__ == "__main__":
    common.run(main, studies.define_flags, draw)
