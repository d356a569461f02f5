import pytest
from small_cifar import RECORDS

from cifar_jax.data import archives


@pytest.fixture(scope="module")
def small_batches():
    """Lets the readers expect batches of a few images for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "RECORDS_PER_BATCH", RECORDS)
        yield
