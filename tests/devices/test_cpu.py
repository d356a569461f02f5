"""Tests which options programs are compiled with, by version and processor."""

import jax
import pytest

from cifar_jax import compiler_options
from cifar_jax.devices import cpu

YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
ONEDNN = "xla_cpu_experimental_onednn_custom_call"

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="the options are for CPUs"
)


@pytest.mark.parametrize(
    ("version", "machine", "flags", "expected"),
    [
        ("0.10.0", "x86_64", "", False),
        ("0.10.1", "x86_64", "", True),
        ("0.12.0.1", "AMD64", "", True),
        ("0.12.1rc2", "x86_64", "--xla_cpu_enable_fast_math=false", True),
        ("0.13.0", "x86_64", "", False),
        ("0.10.2", "aarch64", "", False),
        ("0.10.2", "x86_64", f"--{YNNPACK}=dot", False),
    ],
)
def test_convolutions_are_taken_from_ynnpack_where_that_is_known(
    monkeypatch, version, machine, flags, expected
):
    monkeypatch.setattr("jaxlib.version.__version__", version)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setenv("XLA_FLAGS", flags)
    options = compiler_options()
    assert (YNNPACK in options) == expected
    assert "CONVOLUTION" not in options.get(YNNPACK, "")


@pytest.fixture
def pretend(monkeypatch):
    """Returns a function that replaces what is known of the machine."""

    def pretend(
        version="0.12.0.1",
        machine="x86_64",
        system="linux",
        features="flags : fma amx_bf16 amx_tile",
        flags="",
        backend="cpu",
    ):
        monkeypatch.setattr("jax.default_backend", lambda: backend)
        monkeypatch.setattr("jaxlib.version.__version__", version)
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr("sys.platform", system)
        monkeypatch.setattr(cpu, "features", lambda: features)
        monkeypatch.setenv("XLA_FLAGS", flags)

    return pretend


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"features": "flags : fma avx512f avx512_bf16"}, False),
        ({"version": "0.11.2"}, False),
        ({"version": "0.13.0"}, False),
        ({"machine": "aarch64"}, False),
        ({"system": "darwin"}, False),
        ({"backend": "gpu"}, False),
        ({"flags": f"--{ONEDNN}=false"}, False),
        ({"flags": f"--{YNNPACK}="}, True),
    ],
)
def test_bfloat16_is_left_to_onednn_where_that_is_fast(pretend, changes, expected):
    pretend(**changes)
    assert cpu.has_onednn() == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"features": "flags : fma avx512f"}, "no AMX"),
        ({"version": "0.10.2"}, "needs Python 3.12"),
        ({"version": "0.10.2", "machine": "aarch64"}, None),
        ({"version": "0.13.0"}, None),
        ({"version": "0.10.2", "backend": "gpu"}, None),
    ],
)
def test_users_learn_what_keeps_bfloat16_from_being_fast(pretend, changes, expected):
    pretend(**changes)
    notice = cpu.bfloat16_notice()
    assert notice is None if expected is None else expected in notice


def test_the_compiler_accepts_the_options():
    double = jax.jit(lambda x: x + x, compiler_options=compiler_options())
    assert double(2) == 4
