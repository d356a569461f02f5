"""Tests what JAX's own settings may be."""

import jax
import pytest
from helpers import assert_one_line

from cifar_jax import Config, UserError, fit
from cifar_jax.devices import settings


def test_the_usual_settings_are_fine():
    settings.check()
    assert settings.devices() == jax.devices()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_disable_jit", True),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_numpy_rank_promotion", "raise"),
        ("jax_default_prng_impl", "rbg"),
        ("jax_threefry_partitionable", False),
        ("jax_transfer_guard", "disallow"),
        ("jax_transfer_guard_host_to_device", "disallow_explicit"),
    ],
)
def test_settings_that_do_not_work_are_refused(name, value, dataset):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        with pytest.raises(UserError, match=f"^{name.upper()}={value} .*unset it"):
            fit(Config(max_steps=1, batch_size=8, train_dir=None), dataset)
    finally:
        jax.config.update(name, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("JAX_ENABLE_X64=1", "JAX_ENABLE_X64=True"),
        ("JAX_PLATFORMS=nowhere", "the devices of JAX_PLATFORMS=nowhere: Unable to"),
        ("JAX_PLATFORMS=cuda", "the devices of JAX_PLATFORMS=cuda: "),
    ],
)
def test_commands_refuse_them_in_one_line(
    variable, message, run_command, monkeypatch, tmp_path
):
    if variable == "JAX_PLATFORMS=cuda" and jax.default_backend() != "cpu":
        pytest.skip("there may be a GPU")
    monkeypatch.setenv(*variable.split("="))
    words = ("train", "--dataset=digits", "--max_steps=1", "--batch_size=8")
    assert_one_line(run_command(*words), 2, message)
    assert not (tmp_path / "cifar10_train" / "checkpoints").exists()
