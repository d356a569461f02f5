"""Flags of earlier versions, kept for one release and translated with a warning."""

from collections.abc import Callable, Mapping
from typing import Any

from absl import flags

from cifar_jax.data import distortions
from cifar_jax.data.distortions.geometry import CenterCrop, Crop, Flip
from cifar_jax.data.distortions.values import Brightness, Contrast
from cifar_jax.errors import UserError
from cifar_jax.optimization import OPTIMIZERS
from cifar_jax.optimization.optimizers import SGD
from cifar_jax.registry import resolve, resolve_all

_FLAGS: dict[str, tuple[Callable[..., Any], str]] = {
    "padding": (flags.DEFINE_integer, "distortions"),
    "random_crop": (flags.DEFINE_boolean, "distortions"),
    "random_flip": (flags.DEFINE_boolean, "distortions"),
    "brightness": (flags.DEFINE_float, "distortions"),
    "contrast": (flags.DEFINE_float, "distortions"),
    "momentum": (flags.DEFINE_float, "optimizer"),
    "nesterov": (flags.DEFINE_boolean, "optimizer"),
    "label_smoothing": (flags.DEFINE_float, "loss"),
    "bias_learning_rate_factor": (flags.DEFINE_float, "param_groups"),
}
_VALUES = {
    "schedule": {"drops": "piecewise"},
    "views": {"1": "center", "2": "mirror", "10": "ten_crops"},
}


def define() -> None:
    """Defines the old flags."""
    for name, (define_flag, new_name) in _FLAGS.items():
        define_flag(name, None, f"Old name of an option of --{new_name}.")


def given() -> dict[str, Any]:
    """Returns the values of the old flags that were given."""
    values = {name: flags.FLAGS[name].value for name in _FLAGS}
    return {name: value for name, value in values.items() if value is not None}


def value_of(name: str, value: Any) -> Any:
    """Returns the present word for a value of a flag."""
    return _VALUES[name].get(value, value) if name in _VALUES else value


def translate(old: Mapping[str, Any], current: Callable[[str], str]) -> dict[str, str]:
    """Returns the settings, by name, that mean the same as the old flags.

    Args:
        old: values of old flags by name.
        current: returns what a setting is without them.

    Raises:
        UserError: an old flag says something about what is not there.
    """
    functions = {
        "distortions": _distortions,
        "optimizer": _optimizer,
        "loss": lambda _, old: (
            f"cross_entropy(label_smoothing={old['label_smoothing']})"
        ),
        "param_groups": _param_groups,
    }
    new = {}
    for setting, function in functions.items():
        own = {name: value for name, value in old.items() if _FLAGS[name][1] == setting}
        if own:
            new[setting] = function(current(setting), own)
    return new


def _distortions(text: str, old: Mapping[str, Any]) -> str:
    """Returns the list in which the old flags have replaced some options."""
    steps = resolve_all(
        text, distortions.DISTORTIONS | distortions.MIXTURES, "distortions"
    )
    now: dict[str, Any] = {
        "padding": 0,
        "random_crop": False,
        "random_flip": False,
        "brightness": 0.0,
        "contrast": 0.0,
    }
    for step in steps:
        match step:
            case Crop(padding):
                now |= {"random_crop": True, "padding": padding}
            case Flip():
                now["random_flip"] = True
            case Brightness(delta):
                now["brightness"] = delta
            case Contrast(delta):
                now["contrast"] = delta
            case CenterCrop():
                pass
            case _:
                raise UserError(
                    f"--{next(iter(old))} cannot change --distortions={text}; change "
                    "that list instead"
                )
    now |= old
    if now["padding"] and not now["random_crop"]:
        raise UserError(
            f"--padding={now['padding']} needs --random_crop; give --padding=0"
        )
    crop = f"crop(padding={now['padding']})" if now["padding"] else "crop"
    new = [crop if now["random_crop"] else "center_crop"]
    if now["random_flip"]:
        new.append("flip")
    for name in ("brightness", "contrast"):
        if now[name]:
            new.append(f"{name}({now[name]})")
    return ", ".join(new)


def _optimizer(text: str, old: Mapping[str, Any]) -> str:
    optimizer = resolve(text, OPTIMIZERS, "optimizer")
    if not isinstance(optimizer, SGD):
        raise UserError(
            f"--{next(iter(old))} is an option of sgd, but --optimizer={text}"
        )
    new = vars(optimizer) | dict(old)
    return f"sgd(momentum={new['momentum']}, nesterov={new['nesterov']})"


def _loss(text: str, old: Mapping[str, Any]) -> str:
    return f"cross_entropy(label_smoothing={old['label_smoothing']})"


def _param_groups(text: str, old: Mapping[str, Any]) -> str:
    factor = old["bias_learning_rate_factor"]
    return "" if factor == 1 else f"group('.*/bias', learning_rate={factor})"
