"""What all experiments share; the experiments themselves are run by other tests."""

import importlib
import json
import pkgutil
import resource

import pytest
from absl import flags
from matplotlib.figure import Figure

import experiments
from experiments import common


def test_all_experiments_can_be_imported_together():
    before = set(flags.FLAGS)
    for module in pkgutil.iter_modules(experiments.__path__, "experiments."):
        importlib.import_module(module.name)
    assert set(flags.FLAGS) == before


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("r.json", lambda path: common.write({"n": list(range(9999))}, path)),
        ("r.csv", lambda path: common.write_rows([{"n": "x" * 9999}], path)),
        ("r.png", lambda path: common.write_figure(Figure(), path)),
    ],
)
def test_results_are_whole_or_as_they_were(tmp_path, name, write):
    path = tmp_path / "results" / name
    path.parent.mkdir()
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(OSError, match="too large"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    write(path)
    assert path.stat().st_size > 500


def test_rows_and_records_can_be_read_again(tmp_path):
    common.write({"a": 1}, tmp_path / "new" / "r.json")
    assert json.loads((tmp_path / "new" / "r.json").read_text()) == {"a": 1}
    common.write_rows([{"a": 1, "b": 2}], tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text() == "a,b\n1,2\n"
