import pytest
import small_cifar

from cifar_jax.data.cifar import cifar10, cifar100


@pytest.fixture(scope="module")
def small_batches():
    """Makes `load` expect files of a few images for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "CIFAR10", small_cifar.CIFAR10)
        patch.setattr(cifar100, "CIFAR100", small_cifar.CIFAR100)
        yield


@pytest.fixture(
    params=[small_cifar.CIFAR10, small_cifar.CIFAR100], ids=lambda p: p.name
)
def published(request):
    """Returns each of the data sets, with files of a few images."""
    return request.param


@pytest.fixture
def official(small_batches, monkeypatch):
    """Makes the small data pass for the official data."""
    for module, name in ((cifar10, "CIFAR10"), (cifar100, "CIFAR100")):
        published = small_cifar.official(getattr(small_cifar, name))
        monkeypatch.setattr(module, name, published)
