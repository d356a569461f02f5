"""What the experiments share: start and end, the machine, results, tables.

The benchmarks themselves stay small: a child process begins with its parent's peak
memory on its account, so whatever needs JAX or the data runs in a child as well.
"""

import concurrent.futures
import csv
import datetime
import functools
import importlib.metadata
import io
import json
import multiprocessing
import os
import pathlib
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import app, flags

from cifar_jax.errors import RunError, Stopped, UserError
from cifar_jax.runs.files import write_atomically

if TYPE_CHECKING:  # children begin with this process's memory on their account
    from matplotlib.figure import Figure

RESULTS = pathlib.Path(__file__).parent / "results"
FAKE_DEVICES = 8

FLAGS = flags.FLAGS
# --help lists the flags defined here as those of the experiment that is run.
flags.disclaim_key_flags()


def isolated(function: Callable, *arguments: Any) -> Any:
    """What the function returns when called in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def device_counts(asked: Sequence[str]) -> list[int]:
    """Those asked for, or 1, 2, 4, ... of the devices; a CPU has FAKE_DEVICES.

    Children started after it see as many.
    """
    fake = f"--xla_force_host_platform_device_count={FAKE_DEVICES}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fake}"
    available = isolated(number_of_devices)
    if asked:
        return [int(count) for count in asked]
    return [1 << i for i in range(available.bit_length())]


def number_of_devices() -> int:
    """How many JAX sees."""
    import jax

    return jax.device_count()


def write_records(name: str, data_dir: str, path: str) -> str:
    """Writes the training images as official binary records; returns their source.

    One label byte, then 1,024 bytes of red, of green and of blue.
    """
    from cifar_jax import load_data

    dataset = load_data(name, data_dir or None)
    images = dataset.train.images.transpose(0, 3, 1, 2).reshape(len(dataset.train), -1)
    labels = dataset.train.labels.astype(np.uint8)
    np.column_stack([labels, images]).tofile(path)
    return f"{without_paths(dataset.source)}, fingerprint {dataset.fingerprint}"


def without_paths(source: str) -> str:
    """Where pixels came from, without the folders of this machine."""
    return re.sub(r"\S*/", "", source)


def device() -> str:
    """What JAX computes on: platform and name."""
    import jax

    first = jax.devices()[0]
    return f"{first.platform}: {first.device_kind}"


def matrix_product_peak() -> dict[str, Any]:
    """GFLOP/s of JAX's square matrix products, the best of several, and the device.

    2,048 rows, and 8,192 where that would be over too soon to be timed. In bfloat16
    the result is float32, as in training. On a GPU JAX multiplies float32 as TF32.
    """
    import jax
    import jax.numpy as jnp

    size = 2048 if jax.default_backend() == "cpu" else 8192
    product = jax.jit(lambda x: jnp.matmul(x, x, preferred_element_type=jnp.float32))
    rates = {}
    for dtype in ("float32", "bfloat16"):
        x = jnp.ones((size, size), dtype)
        product(x).block_until_ready()
        durations = []
        for _ in range(8):
            began = time.perf_counter()
            product(x).block_until_ready()
            durations.append(time.perf_counter() - began)
        rates[dtype] = 2 * size**3 / min(durations) / 1e9
    return {"device": device(), "size": size} | rates


def machine() -> dict[str, Any]:
    """What a reader must know to compare the figures, and the day."""
    versions = {
        name: importlib.metadata.version(name)
        for name in ("jax", "jaxlib", "flax", "numpy")
    }
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": len(available_cores()),
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    # Only Linux is asked: elsewhere Python knows the name, there it does not.
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(r"model name\s*: (.+)", text)
    return found[1] if found else platform.processor()


def available_cores() -> list[int]:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def describe(facts: dict[str, Any]) -> str:
    """Facts as one line of text."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up, the first to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = [
        f"{'-' * (width - 1)}{'-' if i == 0 else ':'}" for i, width in enumerate(widths)
    ]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    return "\n".join(map(line, [header, rule, *rows]))


def keep(record: dict[str, Any]) -> None:
    """Writes the record to --json, if that is given."""
    if FLAGS.json:
        write(record, pathlib.Path(FLAGS.json))


def run(main: Callable[[list[str]], None], define_flags: Callable[[], None]) -> None:
    """Parses the flags and runs main; errors end it as they end the commands.

    Args:
        main: of the experiment, given the words that are not flags.
        define_flags: defines the experiment's own flags. It is called here and not at
            import, so that experiments can be imported together.
    """
    flags.DEFINE_string("dataset", "cifar10", "As of the train command.")
    flags.DEFINE_string("data_dir", "", "As of the train command.")
    flags.DEFINE_string("json", "", "Keep the result in this file.")
    define_flags()
    app.run(functools.partial(_guarded, main))


def _guarded(main: Callable[[list[str]], None], argv: list[str]) -> None:
    try:
        main(argv)
    except (UserError, RunError, Stopped) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("error: stopped by SIGINT", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def write(record: dict[str, Any], path: pathlib.Path) -> None:
    """Writes the record as JSON; its folder is made."""
    _write(path, json.dumps(record, indent=1) + "\n")


def write_rows(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """Writes rows of the same keys as CSV; its folder is made."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(path, file.getvalue())


def write_figure(figure: "Figure", path: pathlib.Path, dpi: int = 110) -> None:
    """Writes a figure as PNG; its folder is made."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    _write(path, file.getvalue())


def _write(path: pathlib.Path, contents: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, contents)
