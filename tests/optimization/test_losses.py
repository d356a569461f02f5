"""Tests each term of the loss against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.utils.class_weight import compute_sample_weight

from cifar_jax import UserError
from cifar_jax.optimization import LOSSES
from cifar_jax.optimization.losses import (
    CrossEntropy,
    LabelNoise,
    SquaredError,
    with_counts,
)
from cifar_jax.registry import resolve

RANDOM = np.random.RandomState(1)
LOGITS = 3 * RANDOM.standard_normal((16, 10)).astype(np.float32)
LABELS = RANDOM.randint(10, size=16)
EXTRA = {
    "index": np.arange(16),
    "weight": RANDOM.uniform(0, 3, 16),
    "teacher": 5 * RANDOM.standard_normal((16, 10)),
    "soft_labels": RANDOM.dirichlet(np.ones(10), 16),
}


def losses_of(text, targets=LABELS, **changes):
    """Returns the losses of the examples above by a loss as --loss names it."""
    loss = resolve(text, LOSSES, "loss")
    return np.asarray(loss(jnp.asarray(LOGITS), targets, EXTRA | changes))


def test_cross_entropy():
    expected = logsumexp(LOGITS, axis=1) - LOGITS[np.arange(16), LABELS]
    np.testing.assert_allclose(losses_of("cross_entropy"), expected, rtol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.1, 1.0])
def test_label_smoothing_mixes_in_the_uniform_distribution(label_smoothing):
    targets = (1 - label_smoothing) * np.eye(10)[LABELS] + label_smoothing / 10
    expected = -np.sum(targets * log_softmax(LOGITS, axis=1), axis=1)
    found = losses_of(f"cross_entropy({label_smoothing})")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_labels_and_their_one_hot_vectors_give_the_same_loss():
    for text in ("cross_entropy", "cross_entropy(0.1)", "squared_error"):
        soft = losses_of(text, jnp.eye(10)[LABELS])
        np.testing.assert_allclose(losses_of(text), soft, rtol=1e-5)


def test_soft_targets_are_weighted():
    logits = jnp.array([[1.0, 2.0, 3.0]])
    losses = [float(CrossEntropy()(logits, jnp.array([k]), {})[0]) for k in range(3)]
    soft = CrossEntropy()(logits, jnp.array([[0.2, 0.0, 0.8]]), {})
    assert float(soft[0]) == pytest.approx(0.2 * losses[0] + 0.8 * losses[2])


def test_squared_error_is_summed_over_classes():
    logits = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    # The squared distances to the one-hot vectors are 1 + 4 + 4 and 1.
    losses = SquaredError()(logits, jnp.array([2, 0]), {})
    np.testing.assert_allclose(losses, [9, 1])


def test_cross_entropy_of_huge_logits_is_finite():
    logits = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    assert CrossEntropy()(logits, jnp.array([0, 0]), {}).tolist() == [0, 1e4]


def test_weights_multiply_the_losses():
    expected = EXTRA["weight"] * losses_of("cross_entropy")
    np.testing.assert_allclose(
        losses_of("weighted(cross_entropy)"), expected, rtol=1e-5
    )
    other = losses_of("weighted(cross_entropy, by='mask')", mask=np.arange(16) < 8)
    expected = np.where(np.arange(16) < 8, losses_of("cross_entropy"), 0)
    np.testing.assert_allclose(other, expected, rtol=1e-5)


def test_soft_labels_are_the_targets():
    expected = -(EXTRA["soft_labels"] * log_softmax(LOGITS, axis=1)).sum(axis=1)
    found = losses_of("soft_labels(cross_entropy)")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    squares = ((LOGITS - EXTRA["soft_labels"]) ** 2).sum(axis=1)
    found = losses_of("soft_labels(squared_error)")
    np.testing.assert_allclose(found, squares, rtol=1e-5)


@pytest.mark.parametrize(("temperature", "share"), [(4, 0.9), (1, 1), (2.5, 0)])
def test_distillation_is_the_formula_of_hinton(temperature, share):
    teacher = softmax(EXTRA["teacher"] / temperature, axis=1)
    student = log_softmax(LOGITS.astype(float) / temperature, axis=1)
    divergence = (teacher * (np.log(teacher) - student)).sum(axis=1)
    expected = share * temperature**2 * divergence
    expected += (1 - share) * losses_of("cross_entropy")
    text = f"distillation(cross_entropy, temperature={temperature}, share={share})"
    np.testing.assert_allclose(losses_of(text), expected, rtol=1e-4)


def test_a_network_equal_to_its_teacher_has_the_loss_of_the_labels():
    found = losses_of("distillation(cross_entropy, share=0.75)", teacher=LOGITS)
    expected = 0.25 * losses_of("cross_entropy")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def noisy_labels(fraction, seed, indices, labels):
    """Returns the labels of ten classes that a loss of noisy labels is computed of."""
    seen = []

    class Spy:
        name = "spy"

        def __call__(self, logits, targets, extra):
            seen.append(np.asarray(targets))
            return jnp.zeros(len(targets))

    logits = jnp.zeros((len(labels), 10))
    LabelNoise(Spy(), fraction, seed)(logits, labels, {"index": indices})
    return seen[0]


def test_noise_replaces_a_fraction_of_the_labels_by_each_other_class_alike():
    labels = np.full(20_000, 3)
    counts = np.bincount(noisy_labels(0.3, 0, np.arange(20_000), labels), minlength=10)
    # Five standard deviations of the binomial distribution.
    assert abs(counts[3] - 14_000) < 5 * (20_000 * 0.3 * 0.7) ** 0.5
    each = 6_000 / 9
    others = np.delete(counts, 3)
    assert len(others) == 9
    assert (np.abs(others - each) < 5 * each**0.5).all()


def test_noise_may_replace_no_label_or_all():
    indices, labels = np.arange(100), np.full(100, 3)
    assert (noisy_labels(0.0, 0, indices, labels) == 3).all()
    assert (noisy_labels(1.0, 0, indices, labels) != 3).all()


def test_noise_is_a_function_of_seed_and_image():
    indices, labels = np.arange(100), np.arange(100) % 10
    found = noisy_labels(0.5, 0, indices, labels)
    order = np.random.RandomState(0).permutation(100)
    again = noisy_labels(0.5, 0, indices[order], labels[order])
    np.testing.assert_array_equal(again, found[order])
    other = noisy_labels(0.5, 1, indices, labels)
    assert (other != found).mean() > 0.3


def test_noise_of_probabilities_is_refused():
    with pytest.raises(UserError, match=r"label_noise needs labels.* leave out mixup"):
        losses_of("label_noise(cross_entropy)", targets=np.eye(10)[LABELS])


def test_losses_are_made_of_losses_that_are_made_of_losses():
    text = "weighted(distillation(label_noise(cross_entropy, 0.0), share=0))"
    expected = losses_of("weighted(cross_entropy)")
    np.testing.assert_allclose(losses_of(text), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ("weighted(cross_entropy)", "weight"),
        ("soft_labels(cross_entropy)", "soft_labels"),
        ("distillation(cross_entropy)", "teacher"),
    ],
)
def test_an_array_that_is_missing_or_misshapen_is_named(text, array):
    loss, logits = resolve(text, LOSSES, "loss"), jnp.asarray(LOGITS)
    need = rf"--loss={text.split('(')[0]} needs an array '{array}'"
    way_out = rf"extra={{'{array}': ...}}"
    with pytest.raises(UserError, match=rf"{need} .* only 'index'; .*{way_out}"):
        loss(logits, LABELS, {"index": EXTRA["index"]})
    with pytest.raises(UserError, match=rf"{need} of shape .* not \[16, 1\]"):
        loss(logits, LABELS, {array: np.ones((16, 1))})


@pytest.mark.parametrize(
    "text",
    [
        "weighted",
        "weighted(3)",
        "weighted('cross_entropy')",
        "distillation(cross_entropy, temperature=0)",
        "distillation(cross_entropy, share=1.5)",
        "label_noise(cross_entropy, fraction=-0.1)",
        "label_noise(cross_entropy, seed=-1)",
    ],
)
def test_options_that_cannot_be_used_are_refused(text):
    with pytest.raises(UserError, match=rf"--loss=.*: {text.split('(')[0]} cannot be"):
        resolve(text, LOSSES, "loss")


def test_a_loss_of_a_whole_batch_is_part_of_no_other():
    class Mean:
        name = "mean"

        def __call__(self, logits, targets, extra):
            return logits.mean()

    with pytest.raises(UserError, match="mean does not return one number per example"):
        LabelNoise(Mean())(jnp.asarray(LOGITS), LABELS, EXTRA)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.repeat([0, 1, 2], [12, 40, 3])
    weights = compute_sample_weight("balanced", labels)
    logits = jnp.asarray(RANDOM.standard_normal((55, 3)), jnp.float32)
    loss = with_counts(resolve("balanced(cross_entropy)", LOSSES, "loss"), (12, 40, 3))
    expected = weights * np.asarray(CrossEntropy()(logits, labels, {}))
    np.testing.assert_allclose(loss(logits, labels, {}), expected, rtol=1e-5)
    assert weights.mean() == pytest.approx(1)


def test_counts_reach_a_balanced_loss_inside_of_others():
    loss = resolve("label_noise(balanced(cross_entropy), seed=3)", LOSSES, "loss")
    assert with_counts(loss, (1, 2)).loss.counts == (1, 2)
    given = resolve("balanced(cross_entropy, counts=(5, 6))", LOSSES, "loss")
    assert with_counts(given, (1, 2)).counts == (5, 6)
    assert with_counts(CrossEntropy(), (1, 2)) == CrossEntropy()


def test_a_class_without_images_has_no_share_in_the_balance():
    loss = resolve("balanced(cross_entropy, counts=(4, 0, 12))", LOSSES, "loss")
    logits = jnp.zeros((3, 3))
    found = np.asarray(loss(logits, np.array([0, 1, 2]), {})) / np.log(3)
    # 16 images of two classes: 16 / (2 * 4) and 16 / (2 * 12).
    np.testing.assert_allclose(found[[0, 2]], [2, 2 / 3], rtol=1e-5)
    assert np.isfinite(found[1])


@pytest.mark.parametrize(
    ("text", "targets", "message"),
    [
        ("balanced(cross_entropy, counts=(1, 2))", [0, 1], "counts for 2 classes, but"),
        ("balanced(cross_entropy)", [0, 1], "counts for 0 classes, but there are 3"),
        ("balanced(cross_entropy, counts=(1, 2, 3))", np.eye(3)[:2], "leave out mixup"),
    ],
)
def test_a_balance_of_something_else_is_refused(text, targets, message):
    loss = resolve(text, LOSSES, "loss")
    with pytest.raises(UserError, match=message):
        loss(jnp.zeros((2, 3)), jnp.asarray(targets), {})


@pytest.mark.parametrize("counts", ["(0, 0)", "(-1, 3)"])
def test_counts_that_are_none(counts):
    with pytest.raises(UserError, match="counts="):
        resolve(f"balanced(cross_entropy, counts={counts})", LOSSES, "loss")
