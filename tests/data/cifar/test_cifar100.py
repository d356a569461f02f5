import hashlib
import re

import numpy as np
import pytest
import small_cifar

from cifar_jax import UserError, load_data
from cifar_jax.data.cifar import cifar100
from cifar_jax.runs import run_dir

pytestmark = pytest.mark.usefixtures("small_batches")


@pytest.fixture
def data_dir(tmp_path):
    small_cifar.write_archive(tmp_path, "python", published=small_cifar.CIFAR100)
    return tmp_path


def test_there_are_twenty_groups_of_five_classes_each():
    coarse, fine = (kind.class_names for kind in cifar100.CIFAR100.labels)
    assert len(set(coarse)) == 20
    assert len(set(fine)) == 100
    assert all(len(classes) == 5 for classes in cifar100.GROUPS.values())
    assert coarse == tuple(sorted(coarse))
    assert fine[:3] == ("apple", "aquarium_fish", "baby")
    assert fine[-2:] == ("woman", "worm")


@pytest.mark.parametrize(
    ("options", "kind", "names"),
    [
        ({}, 1, 100),
        ({"labels": "fine"}, 1, 100),
        ({"labels": "coarse"}, 0, 20),
    ],
)
def test_the_labels_that_were_asked_for_are_returned(data_dir, options, kind, names):
    dataset = load_data("cifar100", data_dir, **options)
    assert dataset.name == "cifar100"
    assert len(dataset.class_names) == names
    splits = small_cifar.splits(small_cifar.CIFAR100, kind)
    for found, split in zip((dataset.train, dataset.test), splits, strict=True):
        np.testing.assert_array_equal(found.images, split.images)
        np.testing.assert_array_equal(found.labels, split.labels)


@pytest.mark.usefixtures("official")
def test_both_kinds_of_labels_are_official_but_differ_in_their_fingerprints(data_dir):
    fine = load_data("cifar100", data_dir)
    coarse = load_data("cifar100", data_dir, labels="coarse")
    assert fine.official
    assert coarse.official
    assert fine.fingerprint != coarse.fingerprint


@pytest.mark.usefixtures("official")
def test_one_download_is_enough_for_both_kinds_of_labels(tmp_path, monkeypatch):
    contents = small_cifar.files("binary", published=small_cifar.CIFAR100)
    archive = small_cifar.archive_bytes("binary", contents, small_cifar.CIFAR100)
    sha256 = hashlib.sha256(archive).hexdigest()
    with small_cifar.served(archive) as url:
        small_cifar.change(monkeypatch, size=len(archive), sha256=sha256, url=url)
        fine = load_data("cifar100", tmp_path)
    coarse = load_data("cifar100", tmp_path, labels="coarse")
    folder = tmp_path / "cifar_jax_cifar100" / "1.0.0"
    assert fine.source == coarse.source == f"official CIFAR-100, from {folder}"
    assert (len(fine.class_names), len(coarse.class_names)) == (100, 20)


def test_without_data_or_network_the_error_names_the_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cifar_jax.data.cifar.download.why_unreachable", lambda url: "no"
    )
    with pytest.raises(UserError, match=r"CIFAR-100 is not in .*cifar-100-binary\.tar"):
        load_data("cifar100", tmp_path)


@pytest.mark.wrong_types
@pytest.mark.parametrize("labels", ["medium", "", None, ["fine"]])
def test_unknown_labels_are_refused(data_dir, labels):
    message = f"--labels={labels} is unknown; choose from coarse, fine"
    with pytest.raises(UserError, match=re.escape(message)):
        load_data("cifar100", data_dir, labels=labels)


def test_coarse_labels_of_cifar10_are_refused(data_dir):
    message = "--labels=coarse is not an option of --dataset=cifar10; leave it out"
    with pytest.raises(UserError, match=message):
        load_data("cifar10", data_dir, labels="coarse")


def test_cifar10_beside_it_does_not_matter(data_dir):
    small_cifar.write_archive(data_dir)
    assert load_data("cifar100", data_dir).name == "cifar100"
    assert load_data("auto", data_dir).name == "cifar10"


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "classes"), [("fine", 100), ("coarse", 20)])
def test_a_network_is_trained_and_evaluated(data_dir, call_command, labels, classes):
    options = (f"--data_dir={data_dir}", f"--labels={labels}", "--dataset=cifar100")
    small = ("--model=small", "--max_steps=3", "--batch_size=4", "--log_frequency=1")
    trained = call_command("train", *options, *small, "--train_dir=run")
    assert trained.returncode == 0, trained.stderr
    assert "cifar100: 20 training and 20 test images" in trained.stdout
    assert "is not the official CIFAR-100" in trained.stdout + trained.stderr
    run = run_dir.read(data_dir / "run")
    assert (run.config.dataset, run.config.labels) == ("cifar100", labels)
    assert len(run.class_names) == classes
    evaluated = call_command("eval", "--checkpoint_dir=run")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "precision @ 1" in evaluated.stdout
