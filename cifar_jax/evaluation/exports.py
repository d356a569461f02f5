"""Trained networks as files that can be used without this package.

model.stablehlo     a program from bytes to probabilities, for jax.export
model.safetensors   the variables
config.json         a description of both, and their checksums; written last
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.tree_util import KeyPath
from jaxtyping import Array, Float, Float16, UInt8

from cifar_jax import plugins
from cifar_jax.errors import RunError, UserError
from cifar_jax.evaluation.forward import eval_step
from cifar_jax.evaluation.inference import Trained
from cifar_jax.evaluation.report import is_written_by
from cifar_jax.models import safetensors_files
from cifar_jax.models.variables import Variables
from cifar_jax.runs import config_file
from cifar_jax.runs.files import check_folder, write_together
from cifar_jax.runs.run_dir import Run

PROGRAM, WEIGHTS, RECORD = "model.stablehlo", safetensors_files.NAME, "config.json"
FILES = (PROGRAM, WEIGHTS, RECORD)
GENERATOR = "python -m cifar_jax.export"
# The platforms that a program runs on.
PLATFORMS = ("cpu", "cuda", "tpu")


def check(directory: pathlib.Path) -> None:
    """Checks a folder before an export, without changing it.

    Raises:
        UserError: the folder is not writable, or contains files with these names that
            are not from an earlier export.
    """
    check_folder(directory, "out")
    try:
        found = [name for name in FILES if (directory / name).exists()]
        foreign = found and not is_written_by(GENERATOR, directory / RECORD)
    except OSError as error:
        raise UserError(f"--out={directory} cannot be used: {error.strerror}") from None
    if foreign:
        raise UserError(
            f"--out={directory}: {', '.join(found)} would be overwritten, but there is "
            f"no {RECORD} from an earlier export; delete them, or choose another folder"
        )


def write(
    directory: pathlib.Path,
    run: Run,
    network: Trained,
    raw_params: bool,
    float16: bool = False,
) -> None:
    """Writes the files of a network.

    Args:
        directory: folder that has passed `check`; it is created if missing.
        run: the run that the network is from.
        network: the network, loaded from the run.
        raw_params: whether its parameters are raw rather than averaged.
        float16: whether to round the variables to float16.

    Raises:
        UserError: the network cannot be exported.
        RunError: the files cannot be written.
    """
    contents = describe(run, network, raw_params)
    if float16:
        network = dataclasses.replace(
            network, variables=round_to_float16(network.variables)
        )
    trees = dict(network.variables)
    if network.statistics is not None:
        trees["statistics"] = network.statistics._asdict()
    files: dict[str, bytes] = {
        PROGRAM: serialize(network),
        WEIGHTS: safetensors_files.to_bytes(contents, trees),
    }
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    text = json.dumps(contents | {"sha256": sums}, indent=2, allow_nan=False) + "\n"
    files[RECORD] = text.encode()
    try:
        write_together(directory, files)
    except OSError as error:
        raise RunError(
            f"cannot write the export to {directory}: {error.strerror or error}"
        ) from error


def describe(run: Run, network: Trained, raw_params: bool) -> dict[str, Any]:
    """Returns a description of a network, ready for JSON."""
    config = run.config
    return {
        "generator": GENERATOR,
        "format": safetensors_files.FORMAT,
        "model": config.model,
        "dtype": np.dtype(network.model.dtype).name,
        "parameters": "raw" if raw_params else "averaged",
        "step": network.step,
        "image_shape": network.image_shape,
        "value_range": network.value_range,
        "image_size": config.image_size,
        "normalization": config.normalization,
        "views": config.views,
        "imports": plugins.find_used(
            [config.model, config.normalization, config.views]
        ),
        "data_source": run.data_source,
        "data_fingerprint": run.data_fingerprint,
        "versions": config_file.versions(),
        "class_names": network.class_names,
    }


def round_to_float16(variables: Variables) -> Variables:
    """Rounds variables to float16, which has three significant digits.

    Raises:
        UserError: a value is too large.
    """

    def to_float16(
        path: KeyPath[Any], value: Float[Array | np.ndarray, "..."]
    ) -> Float16[np.ndarray, "..."]:
        with np.errstate(over="ignore"):
            result = np.asarray(value).astype(np.float16)
        if not np.isfinite(result).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"{name} is too large for float16, whose maximum is "
                f"{np.finfo(np.float16).max:.0f}; export without --float16"
            )
        return result

    return jax.tree_util.tree_map_with_path(to_float16, variables)


def serialize(network: Trained) -> bytes:
    """Returns a serialized `jax.export.Exported` that includes the variables.

    It maps uint8 images [b, h, w, 3], for any b, to float32 probabilities [b, classes]:
    those of `classify`, up to rounding. All operations are built into XLA, so the same
    program serves all PLATFORMS.

    Raises:
        UserError: the network works only for a fixed number of images.
    """
    model = network.model.clone(ops="plain")

    def probabilities(images: UInt8[Array, "b h w c"]) -> Float[Array, "b classes"]:
        logits = eval_step(
            # Converted inside the program, so that float16 keeps it small: JAX would
            # convert NumPy arrays immediately.
            jax.tree.map(
                lambda x: jnp.asarray(x).astype(np.float32), network.variables
            ),
            images,
            network.statistics,
            model=model,
            preprocessing=network.preprocessing,
        )
        return jax.nn.softmax(logits, axis=-1)

    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *network.image_shape), np.uint8)
    try:
        with _without_source_locations():
            exported = export.export(jax.jit(probabilities), platforms=PLATFORMS)(
                images
            )
    # JAX and networks raise many types of errors if the number is not known.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{type(model).__name__} cannot be exported for an arbitrary number of "
            f"images: {reason}; in a network, use x.shape[0] instead of len(x)"
        ) from error
    return bytes(exported.serialize())


@contextlib.contextmanager
def _without_source_locations() -> Iterator[None]:
    """Keeps the paths of source files on this machine out of programs."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)
