"""Breaks the core in one place at a time and reports whether a test catches it.

    python tests/mutate.py --mutants=100 --json=mutants.json
    python tests/mutate.py --only=cifar_jax/ops/pool.py

Each mutant changes one operator, comparison, or constant in the core. The choice
depends only on the package and the seed, so that the same mutants can be tried before
and after the tests change. For each mutant, a few of the fast tests that mirror its
module run in a copy of the tree until one fails. The script prints the mutants that
survive: each is a gap in these tests, is caught only by other or slow tests, or has no
effect.
"""

import argparse
import ast
import dataclasses
import importlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CORE = (
    *("data/arrays.py", "data/augment.py", "data/batches.py", "data/normalization.py"),
    *("data/preprocessing.py", "data/distortions", "data/views", "metrics", "ops"),
    *("models/batch_norm.py", "models/block.py", "models/tutorial.py"),
    *("models/resnet.py", "models/vgg.py", "models/airbench.py"),
    *("optimization", "runs", "training", "devices/share.py", "registry.py"),
)
# A surviving mutant runs all tests chosen for it, so they must be few.
MOST_FILES = 5
IMPORTED = (
    *("jax", "flax.linen", "optax", "orbax.checkpoint", "tensorboardX"),
    *("beartype", "scipy.stats", "sklearn.metrics", "PIL.Image", "tensorflow_datasets"),
)
SWAPS: dict[type, type] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult},
    **{ast.Not: ast.UAdd, ast.USub: ast.UAdd},
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A change to the nth changeable place in a file."""

    file: str
    place: int
    line: int
    change: str


def places(tree: ast.AST) -> Iterator[ast.AST]:
    """Yields the changeable nodes: no annotations, strings, decorators, or versions."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            operators = getattr(child, "ops", [getattr(child, "op", None)])
            number = isinstance(child, ast.Constant) and isinstance(
                child.value, (bool, int, float)
            )
            if number or any(type(operator) in SWAPS for operator in operators):
                yield child
            yield from places(child)


def changed(node: ast.AST) -> str:
    """Changes a node; returns its code before and after."""
    before = ast.unparse(node)
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            node.value = not value
        else:
            node.value = value + 1 if isinstance(value, int) or not value else 2 * value
    elif isinstance(node, ast.Compare):
        node.ops = [SWAPS[type(operator)]() for operator in node.ops]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        node.op = ast.Not()
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    else:
        node.op = SWAPS[type(node.op)]()
    return f"{before}  ->  {ast.unparse(node)}"


def core() -> list[pathlib.Path]:
    """Returns the core's files."""
    folder = ROOT / "cifar_jax"
    found = (sorted((folder / name).rglob("*.py")) or [folder / name] for name in CORE)
    return [file for files in found for file in files]


def mutants(file: pathlib.Path) -> list[Mutant]:
    """Returns all mutants in a file."""
    text = file.read_text()
    found = []
    for place, node in enumerate(list(places(ast.parse(text)))):
        line = node.lineno
        name = str(file.relative_to(ROOT))
        found.append(Mutant(name, place, line, changed(node)))
    return found


def tests_of(file: str) -> list[str]:
    """Returns the tests that mirror a module, those with its name first.

    They are those in the same folder of tests, or the nearest above it, that mention
    the module or anything in it, the smallest first; any, if none does; and the golden
    values for networks and their operations.
    """
    module = ROOT / file
    folder = ROOT / "tests" / module.relative_to(ROOT / "cifar_jax").parent
    while not list(folder.glob("test_*.py")):
        folder = folder.parent
    name = module.parent.name if module.stem == "__init__" else module.stem
    names = {name, f"test_{name}"}
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_":
            names.add(node.name)
    known = re.compile(r"\b(" + "|".join(names) + r")\b")
    around = sorted(folder.glob("test_*.py"))
    found = [t for t in around if known.search(f"{t.stem} {t.read_text()}")] or around
    found.sort(key=lambda test: (name not in test.stem, test.stat().st_size))
    if "models" in module.parts or "ops" in module.parts:
        found.insert(MOST_FILES - 1, ROOT / "tests" / "test_golden.py")
    return [str(test.relative_to(ROOT)) for test in found[:MOST_FILES]]


def run_tests(copy: pathlib.Path, tests: list[str], limit: float) -> str:
    """Runs tests in a copy of the tree; returns the first that fails, "" if none.

    They run in a fork of this process, which has imported JAX and never used it.
    """
    child = os.fork()
    if child == 0:
        try:
            _run_here(copy, tests)
        finally:
            os._exit(99)
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "its time limit"
        time.sleep(0.05)
    if status == 0:
        return ""
    text = (copy / "out.txt").read_text()
    failed = re.search(r"^(?:FAILED|ERROR) ([^\s\[]+)", text, re.M)
    return failed[1] if failed else f"the end of the process, {status}"


def _run_here(copy: pathlib.Path, tests: list[str]) -> None:
    """Runs tests, then exits with pytest's exit code."""
    os.setsid()
    os.chdir(copy)
    with (copy / "out.txt").open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    rewrite = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    words = [
        "-W",
        rewrite,
        "-n0",
        "-x",
        "-q",
        "--no-header",
        "--tb=no",
        "--hypothesis-seed=0",
    ]
    code = pytest.main([*words, "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    os._exit(code)


def prepare(copy: pathlib.Path) -> None:
    """Copies the tree, and imports the libraries that the tests need, once."""
    ignored = shutil.ignore_patterns(".git", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=ignored)
    own = {str(ROOT), str(ROOT / "tests")}
    sys.path[:] = [str(copy), *(path for path in sys.path if path not in own)]
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": str(copy / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(copy),
    }
    sys.dont_write_bytecode = True
    for name in IMPORTED:
        importlib.import_module(name)


def main() -> None:
    """Tries the mutants and writes the result of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=240, help="seconds for each")
    parser.add_argument("--only", nargs="*", help="files to change instead of the core")
    parser.add_argument("--json", type=pathlib.Path, help="file for the results")
    parser.add_argument(
        "--after",
        type=pathlib.Path,
        help="earlier results, whose killers are tried first",
    )
    options = parser.parse_args()
    files = [ROOT / name for name in options.only] if options.only else core()
    every = [mutant for file in files for mutant in mutants(file)]
    count = min(options.mutants, len(every))
    chosen = random.Random(options.seed).sample(every, count)
    known = json.loads(options.after.read_text()) if options.after else []
    killers = {(r["file"], r["place"]): r["killed_by"] for r in known}
    results = []
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copy = pathlib.Path(folder) / "tree"
        prepare(copy)
        for number, mutant in enumerate(chosen, 1):
            target, start = copy / mutant.file, time.monotonic()
            before = target.read_text()
            tree = ast.parse(before)
            changed(list(places(tree))[mutant.place])
            target.write_text(ast.unparse(tree))
            killer = killers.get((mutant.file, mutant.place), "")
            if not (
                "::" in killer and run_tests(copy, [killer], options.limit) == killer
            ):
                killer = run_tests(copy, tests_of(mutant.file), options.limit)
            target.write_text(before)
            seconds = time.monotonic() - start
            results.append({**dataclasses.asdict(mutant), "killed_by": killer})
            if options.json:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
            print(
                f"{number:3} {f'killed by {killer}' if killer else 'SURVIVED'}",
                f"{mutant.file}:{mutant.line}: {mutant.change}",
                f"({seconds:.0f} s)",
                flush=True,
            )
        # A test that fails without any change would kill every mutant.
        named = {r["killed_by"] for r in results if "::" in r["killed_by"]}
        if failed := run_tests(copy, sorted(named), 3600):
            sys.exit(f"without any change, this fails too: {failed}")
    killed = sum(bool(result["killed_by"]) for result in results)
    print(f"{killed} of {count} killed, chosen among {len(every)}")


if __name__ == "__main__":
    main()
