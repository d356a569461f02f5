"""Damaged archives of CIFAR-10 and CIFAR-100."""

import functools
import itertools
import pathlib
import random

import small_cifar

from campaign_parts.attempts import Table, attempt, damaged
from cifar_jax import load_data
from cifar_jax.data.cifar import cifar10, cifar100, download


def damaged_archives(count: int, folder: pathlib.Path, table: Table) -> None:
    """Damages a small archive or an unpacked folder `count` times and loads it."""
    cifar10.CIFAR10 = small_cifar.official(small_cifar.CIFAR10)
    cifar100.CIFAR100 = small_cifar.official(small_cifar.CIFAR100)
    places = []
    for published, kind, packed in itertools.product(
        (cifar10.CIFAR10, cifar100.CIFAR100), small_cifar.KINDS, (True, False)
    ):
        place = folder / f"{published.name}-{kind}-{packed}"
        place.mkdir()
        if packed:
            small_cifar.write_archive(place, kind, published=published)
        else:
            contents = small_cifar.files(kind, published=published)
            small_cifar.write_folder(place, contents)
        words = f"damage of {'an archive' if packed else 'a folder'}, {kind}"
        places.append((words, published.name, place))
    intact = {name: load_data(name, place).fingerprint for _, name, place in places}

    def load(name: str, place: pathlib.Path) -> str:
        found = load_data(name, place)
        same = found.fingerprint == intact[name]
        assert found.official == (found.notice is None)
        # A damaged coarse label is none of the fingerprint's, but not official either.
        assert same or not found.official
        return "no change" if same else "read, and said not to be official"

    # A missing archive would otherwise be requested from the server.
    download.why_unreachable = lambda url: "not asked"
    for i in range(count):
        words, name, place = places[i % len(places)]
        path = random.choice(sorted(place.iterdir()))
        with damaged(path) as how:
            loading = functools.partial(load, name, place)
            attempt(table, words, f"{path}: {how}", loading)
