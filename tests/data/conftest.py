import pytest
import small_cifar

from cifar_jax.data import archives, cifar10, dataset


@pytest.fixture(scope="module")
def small_batches():
    """Makes the readers expect batches of a few images for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "RECORDS_PER_BATCH", small_cifar.RECORDS)
        yield


@pytest.fixture
def official(monkeypatch):
    """Makes the small data count as the official data."""
    splits = small_cifar.splits()
    monkeypatch.setattr(dataset, "OFFICIAL", dataset.fingerprint(*splits))
    unordered = dataset.unordered_fingerprint(*splits)
    monkeypatch.setattr(cifar10, "OFFICIAL_UNORDERED", unordered)
