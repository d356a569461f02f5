"""Reads what W&B writes in offline mode: a log in LevelDB's format."""

import json
import pathlib
from typing import NamedTuple

_HEADER, _BLOCK, _HEAD = 7, 32_768, 7
_FULL, _LAST = 1, 4


class OfflineRun(NamedTuple):
    """What one process recorded: rows in order, and the code it ended with."""

    id: str
    name: str
    project: str
    config: dict
    rows: list[dict]
    step_metrics: dict[str, str]
    exit_code: int | None


def read(folder: pathlib.Path) -> OfflineRun:
    """Returns the contents of an offline-run folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    [path] = folder.glob("run-*.wandb")
    run, rows, code, config, metrics = None, [], None, {}, {}
    for content in _records(path.read_bytes()):
        record = Record.FromString(content)
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                config |= {u.key: json.loads(u.value_json) for u in run.config.update}
            case "history":
                items = record.history.item
                names = [i.key or "/".join(i.nested_key) for i in items]
                values = [json.loads(i.value_json) for i in items]
                rows.append(dict(zip(names, values, strict=True)))
            case "metric":
                metric = record.metric
                metrics[metric.name or metric.glob_name] = metric.step_metric
            case "exit":
                code = record.exit.exit_code
    assert run is not None
    return OfflineRun(
        run.run_id, run.display_name, run.project, config, rows, metrics, code
    )


def _records(content: bytes):
    assert content.startswith(b":W&B")
    at, parts = _HEADER, b""
    while at + _HEAD <= len(content):
        if _BLOCK - at % _BLOCK < _HEAD:  # the rest of a block is empty
            at += _BLOCK - at % _BLOCK
            continue
        size = int.from_bytes(content[at + 4 : at + 6], "little")
        kind = content[at + 6]
        parts += content[at + _HEAD : at + _HEAD + size]
        at += _HEAD + size
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""
