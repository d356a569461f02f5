"""Registers your own code by name, and imports it for --import."""

import importlib
import importlib.machinery
import importlib.util
import pathlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from cifar_jax.errors import UserError

# Where each kind of choice is registered; only the needed module is imported.
KINDS = {
    "dataset": "cifar_jax.data:DATASETS",
    "data_change": "cifar_jax.data.changes:DATA_CHANGES",
    "distortion": "cifar_jax.data.distortions:DISTORTIONS",
    "mixture": "cifar_jax.data.distortions:MIXTURES",
    "normalization": "cifar_jax.data.normalization:NORMALIZATIONS",
    "views": "cifar_jax.data.views:VIEWS",
    "model": "cifar_jax.models:MODELS",
    "loss": "cifar_jax.optimization:LOSSES",
    "optimizer": "cifar_jax.optimization.optimizers:OPTIMIZERS",
    "schedule": "cifar_jax.optimization.schedules:SCHEDULES",
    "group": "cifar_jax.optimization.param_groups:PARAM_GROUPS",
    "average": "cifar_jax.optimization.averages:AVERAGES",
    "metric": "cifar_jax.metrics:METRICS",
    "eval_metric": "cifar_jax.metrics:EVAL_METRICS",
    "attack": "cifar_jax.evaluation.attacks:ATTACKS",
    "writer": "cifar_jax.writers:WRITERS",
    "recipe": "cifar_jax.config.recipes:RECIPES",
}

# Where code is not the user's own: this package, Python, and installed packages.
_LIBRARIES = (
    pathlib.Path(__file__).parent,
    *(pathlib.Path(sysconfig.get_path(n)) for n in ("stdlib", "purelib", "platlib")),
)

# Kinds that the same flag lists.
_ONE_FLAG = ("distortion", "mixture")

Choice = TypeVar("Choice")

# What was registered, such as "model vit_tiny", and the --import that registers it.
_origins: dict[str, str] = {}
# What `load` has imported in this process, and what it is importing now.
_loaded: list[str] = []
_loading: list[str] = []


def register(kind: str, name: str) -> Callable[[Choice], Choice]:
    """Returns a decorator that registers a class or a function under a name.

    Args:
        kind: one of KINDS, such as "model".
        name: the name by which flags and `Config` then know it.

    Raises:
        UserError: there is no such kind, or the name is invalid or taken.
    """
    if kind not in KINDS:
        raise UserError(f"kind={kind!r} is unknown; choose from {', '.join(KINDS)}")
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"name={name!r} must be a valid Python name, without spaces")
    origin = _loading[-1] if _loading else _find_import(sys._getframe(1).f_globals)

    def add(choice: Choice) -> Choice:
        for other in _ONE_FLAG if kind in _ONE_FLAG else (kind,):
            known = _registry(other)
            if name in known and not _is_same(known[name], choice):
                raise UserError(
                    f"there is already a {other} {name}; choose another name"
                )
        _registry(kind)[name] = choice
        _origins[f"{kind} {name}"] = origin
        return choice

    return add


def load(texts: Iterable[str]) -> None:
    """Imports modules, which register their choices.

    Args:
        texts: names of modules or .py files.

    Raises:
        UserError: there is no such module, or it raises an error.
    """
    for text in texts:
        try:
            _loaded.append(_import(text, _file(text)))
        # A script may also call exit().
        except (Exception, SystemExit) as error:
            reason = find_culprit(error) or _message(error)
            raise UserError(f"--import={text}: {reason}") from error


def as_flags() -> list[str]:
    """Returns the flags with which another process imports the same code."""
    return [f"--import={','.join(_loaded)}"] if _loaded else []


def find_used(settings: Iterable[str]) -> dict[str, str]:
    """Returns the registered choices named in settings, with the --import of each.

    For example, {"model vit_tiny": "my_networks"}.
    """
    words = set(re.findall(r"\w+", " ".join(settings)))
    return {
        what: origin
        for what, origin in sorted(_origins.items())
        if what.split()[1] in words
    }


def check(imports: Mapping[str, str]) -> None:
    """Raises UserError unless the choices from `find_used` are registered here."""
    for what, origin in imports.items():
        module = pathlib.PurePath(origin).stem if origin.endswith(".py") else origin
        if what in _origins and (origin == _origins[what] or module in sys.modules):
            continue
        way = f"pass --import={origin} (or, from Python, import it first)"
        if origin == "__main__":
            origin = "an interactive session"
            way = "write it to a file, and pass --import=FILE"
        raise UserError(f"the run uses {what} from {origin}; {way}")


def _registry(kind: str) -> dict[str, Any]:
    module, attribute = KINDS[kind].split(":")
    return getattr(importlib.import_module(module), attribute)


def _find_import(scope: Mapping[str, Any]) -> str:
    """Returns the --import of the module with these globals."""
    if scope["__name__"] == "__main__" and "__file__" in scope:
        return str(pathlib.Path(scope["__file__"]).resolve())
    return str(scope["__name__"])


def _is_same(known: object, choice: object) -> bool:
    """Returns whether both are the same, or one redefined, as in a notebook."""
    name = getattr(choice, "__qualname__", "<none>")
    return known is choice or (
        "<" not in name
        and name == getattr(known, "__qualname__", None)
        and choice.__module__ == known.__module__
    )


def _file(text: str) -> str | None:
    """Returns the file of a module, or None if it has none."""
    if text.endswith(".py"):
        path = pathlib.Path(text).expanduser().resolve()
        if path.is_file():
            return str(path)
    elif spec := importlib.util.find_spec(text):
        return spec.origin
    raise UserError("there is no such module or file; pass MODULE or FILE.py")


def _import(text: str, file: str | None) -> str:
    """Imports a module or a file; returns the --import for any directory."""
    path = file if text.endswith(".py") else None
    _loading.append(path or text)
    try:
        if path:
            _import_file(pathlib.Path(path))
        else:
            importlib.import_module(text)
        return _loading[-1]
    finally:
        _loading.pop()


def _import_file(path: pathlib.Path) -> None:
    """Imports a file as a module of the same name, as if from its directory."""
    name = path.stem
    if name in sys.modules:
        place = getattr(sys.modules[name], "__file__", None)
        if place is None or pathlib.Path(place).resolve() != path:
            raise UserError(f"there is already a module {name}; rename the file")
        return
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def find_culprit(error: BaseException) -> str | None:
    """Returns the line of your own code that raised an error, and the error.

    Returns None if the error came from elsewhere. Your own code is all code that
    belongs neither to this package nor to installed libraries.
    """
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if _is_own(frame.filename)]
    if not lines:
        return None
    return f"{lines[-1].filename}, line {lines[-1].lineno}: {_message(error)}"


def _is_own(file: str) -> bool:
    path = pathlib.Path(file)
    return path.is_file() and not any(map(path.is_relative_to, _LIBRARIES))


def _message(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
