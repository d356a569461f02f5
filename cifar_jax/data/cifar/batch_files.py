"""The three formats of CIFAR's files: binary records, pickle and MATLAB.

Each decoder takes the untrusted bytes of one file, the keys of its labels, and the
number of bytes that it may unpack to. It returns the pixels, uint8 [n, 3072] with three
planes per image, and the labels, one column per key. The caller checks the number of
images and the label values. Damaged bytes may cause any exception.
"""

import dataclasses
import io
import pickle
import pickletools
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

PIXELS = 3 * 32 * 32

Batch = tuple[UInt8[np.ndarray, "n 3072"], Integer[np.ndarray, "n kinds"]]


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of data set files: their suffix, and how to decode one."""

    suffix: str
    decode: Callable[[bytes, Sequence[str], int], Batch]


def decode_binary(contents: bytes, keys: Sequence[str], max_bytes: int) -> Batch:
    """Decodes records of one byte per label and 3,072 pixel bytes."""
    kinds = len(keys)
    if len(contents) % (kinds + PIXELS):
        raise ValueError(
            f"its size, {len(contents):,} bytes, is not a multiple of {kinds + PIXELS}"
        )
    records = np.frombuffer(contents, np.uint8).reshape(-1, kinds + PIXELS)
    return records[:, kinds:], records[:, :kinds]


class _Pickled:
    """Holds the arguments and state of a pickled NumPy object without using them."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Pickled:
    """Converts an array pickled by protocol 5 to the form of other protocols."""
    array = _Pickled()
    array.state = (1, shape, dtype, order != "C", raw)
    return array


class _BatchUnpickler(pickle.Unpickler):
    """Admits only the names that a batch needs and makes each of them harmless."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (
                "numpy.core.multiarray" | "numpy._core.multiarray",
                "_reconstruct",
            ) | ("numpy", "ndarray" | "dtype"):
                return _Pickled
            case "numpy.core.numeric" | "numpy._core.numeric", "_frombuffer":
                return _from_buffer  # arrays since protocol 5
            case "_codecs", "encode":  # how Python 3 pickles bytes for Python 2
                return lambda text, _: str.encode(text, "latin1")
        raise pickle.UnpicklingError(f"its pickle refers to {module}.{name}")


# The opcodes that the protocols use for a batch's dict. The official files have
# protocol 2, Python 2's last; files that were pickled again may have any other.
_OPCODES = frozenset(
    [
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
        *("DICT", "EMPTY_DICT", "SETITEM", "SETITEMS"),
        *("LIST", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "MEMOIZE"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    ]
)


def decode_python(contents: bytes, keys: Sequence[str], max_bytes: int) -> Batch:
    """Decodes a pickled dict with an array, b"data", and lists of labels."""
    # The pickle is scanned before it is loaded: other opcodes, and memo entries beyond
    # what the pickle can fill, make the unpickler allocate whatever size they claim.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(contents)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"its pickle contains the opcode {opcode.name}")
        if opcode.name in ("PUT", "LONG_BINPUT") and (argument or 0) > count:
            raise ValueError(f"its pickle contains the memo entry {argument}")
    batch = _BatchUnpickler(io.BytesIO(contents), encoding="bytes").load()
    if isinstance(batch, dict):
        # Files that Python 3 loaded as Latin-1 and saved again have text as names.
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
    if not isinstance(batch, dict) or not {"data", *keys} <= batch.keys():
        raise ValueError(f"its pickle is not a dict with data and {' and '.join(keys)}")
    _, shape, dtype, fortran_order, raw = batch["data"].state
    if dtype.arguments[0] not in (b"u1", "u1") or fortran_order:
        raise ValueError("its array is not uint8 in C order")
    labels = [batch[key] for key in keys]
    if not all(type(label) is int for column in labels for label in column):
        raise ValueError("its labels are not integers")
    pixels = np.frombuffer(raw, np.uint8).reshape(shape)
    return pixels, np.array(labels, np.int64).T


def decode_matlab(contents: bytes, keys: Sequence[str], max_bytes: int) -> Batch:
    """Decodes a MATLAB 5 file with `data` (n x 3072) and labels (n x 1 each)."""
    import scipy.io  # imported here because most runs read another format

    file = io.BytesIO(_inflate_matlab(contents, max_bytes))
    found = {name: (kind, *shape) for name, shape, kind in scipy.io.whosmat(file)}
    for name, columns in (("data", PIXELS), *((key, 1) for key in keys)):
        if found.get(name, ())[::2] != ("uint8", columns):
            raise ValueError(f"its variable {name} is {found.get(name)}, not uint8")
    variables = scipy.io.loadmat(file, variable_names=("data", *keys))
    return variables["data"], np.hstack([variables[key] for key in keys])


def _inflate_matlab(contents: bytes, max_bytes: int) -> bytes:
    """Returns the same MATLAB file with its variables uncompressed.

    SciPy itself would inflate a variable to whatever size it claims. The layout is
    described in MathWorks' "MAT-File Format", level 5: a 128-byte header, then elements
    of type, size and data; type 15 is a zlib stream that holds another element.
    """
    if contents[124:128] != b"\x00\x01IM":
        raise ValueError("it is not a little-endian MATLAB 5 file")
    parts, position, room = [contents[:128]], 128, max_bytes
    while position < len(contents):
        kind, size = struct.unpack_from("<II", contents, position)
        element = contents[position : position + 8 + size]
        if kind == 15:
            stream = zlib.decompressobj()
            element = stream.decompress(element[8:], room)
            if not stream.eof:
                raise ValueError("a variable is truncated or implausibly large")
        parts.append(element)
        position += 8 + size
        room = max(room - len(element), 1)  # zlib takes 0 to mean no limit
    return b"".join(parts)


BINARY = Format(".bin", decode_binary)
PYTHON = Format("", decode_python)
MATLAB = Format(".mat", decode_matlab)
