"""Tests that imports between groups of modules only run downward."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "cifar_jax"
EXPERIMENTS = ROOT / "experiments"

# From top to bottom. Groups on the same line do not import each other.
LAYERS = [
    ["commands"],
    ["studies"],
    ["serving", "training"],
    ["evaluation"],
    ["runs"],
    ["config"],
    ["metrics", "writers"],
    ["data", "models", "optimization"],
    ["ops"],
    ["devices"],
    ["basics"],
]
COMMANDS = {
    *("train", "eval", "predict", "compare", "study", "export", "demo"),
    *("__main__", "command", "help", "network_flags", "startup"),
}
BASICS = {
    *("aftermath", "caches", "checks", "console", "errors", "extras", "markdown"),
    *("noise", "plugins", "registry"),
}
HEIGHT = {group: -number for number, groups in enumerate(LAYERS) for group in groups}


def group(module: str) -> str:
    """Returns the group of a module, such as "data" for cifar_jax.data.augment."""
    name = module.split(".")[1]
    if name in COMMANDS:
        return "commands"
    return "basics" if name in BASICS else name


def imports(path: pathlib.Path) -> list[ast.ImportFrom]:
    """Returns what a file imports anywhere."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.ImportFrom)]


def imported(path: pathlib.Path) -> set[str]:
    """Returns the modules of this package that a file imports anywhere."""
    found = set()
    for node in imports(path):
        if node.module == "cifar_jax":
            names = {name.name for name in node.names} - {"__version__"}
            found |= {f"cifar_jax.{name}" for name in names}
        elif node.module.startswith("cifar_jax."):
            found.add(node.module)
    return found


FILES = [p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    own = group(".".join(parts))
    for module in imported(path):
        other = group(module)
        assert other == own or HEIGHT[other] < HEIGHT[own], f"{own} imports {module}"


def test_every_group_is_in_the_list():
    directories = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    modules = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert directories == set(HEIGHT) - {"commands", "basics"}
    assert modules == COMMANDS | BASICS


def test_experiments_import_the_harness_alone_and_never_in_circles():
    graph: dict[str, set[str]] = {}
    for path in EXPERIMENTS.glob("*/*.py"):
        room = path.parent.name
        graph[f"experiments.{room}.{path.stem}"] = names = set()
        for node in imports(path):
            if node.module.startswith("experiments."):
                assert node.module.split(".")[1] in (room, "harness"), path
                names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    assert graph
    graphlib.TopologicalSorter(graph).prepare()  # refuses circles
