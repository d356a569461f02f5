import numpy as np
import pytest
from report_files import SUBJECT

from cifar_jax import Split
from cifar_jax.evaluation import report


@pytest.fixture(scope="module")
def answers():
    """Returns a split with two of three classes, and logits, some of them right."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 32, 32, 3), np.uint8)
    split = Split(images, random.integers(0, 2, 60).astype(np.int32))
    logits = random.normal(size=(60, 3)).astype(np.float32)
    logits[:, 2] = -9
    return split, logits


@pytest.fixture(scope="module")
def written(answers, tmp_path_factory):
    """Returns the folder of a report."""
    folder = tmp_path_factory.mktemp("report") / "a" / "b"
    report.check(folder)
    assert not folder.exists()
    assert report.write(folder, SUBJECT, *answers) == folder / "report.html"
    return folder
