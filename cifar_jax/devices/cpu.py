"""What XLA can do on this CPU, and the compiler options that make it do so."""

import functools
import os
import pathlib
import platform
import re
import sys

import jax
import jaxlib.version

_YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
ONEDNN = "xla_cpu_experimental_onednn_custom_call"


@functools.cache
def features() -> str:
    """Returns the names of the processor's instruction sets, as Linux lists them.

    Elsewhere, it returns the processor's name.
    """
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor()


def compiler_options() -> dict[str, str | bool]:
    """Returns XLA's options for this package's programs, as `jax.jit` takes them.

    On x86-64 CPUs, jaxlib 0.10.1 to 0.12 hand convolutions to YNNPACK, where gradients
    take several times as long as with XLA's own (`experiments.speed.compiler_options`).
    The options keep YNNPACK for everything else. They are empty on other devices, with
    other versions, which may not have the option, and if XLA_FLAGS sets it.
    """
    if (
        jax.default_backend() != "cpu"
        or not _is_x86()
        or not (0, 10, 1) <= _version() < (0, 13)
        or _YNNPACK in os.environ.get("XLA_FLAGS", "")
    ):
        return {}
    kept = ("DOT", "INDIVIDUAL_DOT", "REDUCE")
    return {_YNNPACK: ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in kept)}


def has_onednn() -> bool:
    """Returns whether XLA can leave convolutions to oneDNN, and is faster in bfloat16.

    jaxlib 0.12 can, on Linux (https://github.com/openxla/xla/pull/30997). The processor
    must have AMX; with AVX512_BF16 alone, a step took longer than in float32. XLA_FLAGS
    may decide otherwise. It is never so if programs run on other devices.
    """
    known = _is_x86_linux() and (0, 12) <= _version() < (0, 13)
    return (
        jax.default_backend() == "cpu"
        and known
        and _has_amx()
        and ONEDNN not in os.environ.get("XLA_FLAGS", "")
    )


def bfloat16_notice() -> str | None:
    """Returns a line about what keeps bfloat16 from being fast here, or None."""
    if jax.default_backend() != "cpu" or not _is_x86_linux():
        return None
    if not _has_amx():
        return "this processor has no AMX for bfloat16: --use_fp16 may save no time"
    if _version() < (0, 12):
        return (
            "convolutions in bfloat16 are faster with jax 0.12, which needs Python "
            "3.12 or newer"
        )
    return None


def _has_amx() -> bool:
    return "amx_bf16" in features().split()


def _is_x86_linux() -> bool:
    return _is_x86() and sys.platform == "linux"


def _version() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", jaxlib.version.__version__)[:3]))


def _is_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")
