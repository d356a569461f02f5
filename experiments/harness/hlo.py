"""What the operations of a compiled program compute, from the text that XLA dumps."""

import dataclasses
import math
import re
from collections.abc import Iterable

_DEFINITION = re.compile(
    r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(?:,|$)(.*)"
)
_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_ENTRY = re.compile(r"\w+\[[\d,]*\]")

# Operations that move or repeat values without calculating.
_MOVES = frozenset(
    {"bitcast", "broadcast", "concatenate", "constant", "copy", "dynamic-slice"}
    | {"dynamic-update-slice", "gather", "get-tuple-element", "iota", "pad"}
    | {"parameter", "reshape", "reverse", "select", "slice", "transpose", "tuple"}
)
# Operations that read only part of an operand.
_CUTS = frozenset({"dynamic-slice", "dynamic-update-slice", "gather", "slice"})


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation, or a fusion of several.

    Attributes:
        shape: The text of its output's shape.
        kind: XLA's name for it, such as "fusion" or "dot".
        operands: The names of its operands.
        attributes: The text after the operands.
    """

    shape: str
    kind: str
    operands: tuple[str, ...]
    attributes: str

    def attribute(self, name: str) -> tuple[int, ...]:
        """Returns a list of numbers among the attributes."""
        found = re.search(rf"\b{name}={{([\d,]*)}}", self.attributes)
        return _numbers(found[1]) if found else ()


class Program:
    """The operations of a compiled program by name, and what each costs."""

    def __init__(self, text: str):
        self.operations: dict[str, Operation] = {}
        self._computations: dict[str, list[str]] = {}
        inside: list[str] = []
        for line in text.splitlines():
            if opening := _COMPUTATION.match(line):
                inside = self._computations.setdefault(opening[1], [])
            elif found := _DEFINITION.match(line):
                name, shape, kind, operands, attributes = found.groups()
                names = tuple(re.findall(r"%([\w.\-]+(?:#\d+)?)", operands))
                self.operations[name] = Operation(shape, kind, names, attributes)
                inside.append(name)

    def fused(self, name: str) -> Iterable[Operation]:
        """Returns the operations inside a fusion, or the operation itself."""
        operation = self.operations[name]
        called = re.search(r"calls=%?([\w.\-]+)", operation.attributes)
        if called is None:
            return (operation,)
        return [self.operations[part] for part in self._computations[called[1]]]

    def flops(self, name: str) -> int:
        """Returns the floating-point operations of its products and convolutions.

        They are counted as written: multiplications by padding are included.
        """
        return sum(map(self._flops, self.fused(name)))

    def bytes(self, name: str) -> int:
        """Returns how many bytes it reads and writes, each operand and output once.

        An operand of which only a part is read is counted as large as the output.
        """
        operation = self.operations[name]
        written = _bytes(operation.shape)
        cuts = any(part.kind in _CUTS for part in self.fused(name))
        for operand in operation.operands:
            size = _bytes(self._shape(operand))
            written += min(size, _bytes(operation.shape)) if cuts else size
        return written

    def _shape(self, operand: str) -> str:
        """Returns the shape of an operand, which may be one entry of a tuple."""
        name, _, entry = operand.partition("#")
        shape = self.operations[name].shape
        return _ENTRY.findall(shape)[int(entry)] if entry else shape

    def part(self, name: str) -> str:
        """Returns the part of a training step that it belongs to."""
        fused = list(self.fused(name))
        kinds = {operation.kind for operation in fused}
        if "convolution" in kinds or "custom-call" in kinds:
            return "convolutions by XLA"
        if products := [one for one in fused if one.kind == "dot"]:
            if max(map(self._terms, products)) <= 36:
                return "products with at most 36 terms"
            return "other products"
        if kinds & {"reduce", "reduce-window"}:
            return "sums and means"
        return "copies and constants" if kinds <= _MOVES else "other arithmetic"

    def _terms(self, product: Operation) -> int:
        left = _dimensions(self._shape(product.operands[0]))
        return math.prod(
            left[axis] for axis in product.attribute("lhs_contracting_dims")
        )

    def _flops(self, operation: Operation) -> int:
        outputs = math.prod(_dimensions(operation.shape))
        if operation.kind == "dot":
            return 2 * outputs * self._terms(operation)
        if operation.kind == "convolution":
            labels = re.search(r"dim_labels=\w+_(\w+)->", operation.attributes)
            assert labels is not None
            kernel = _dimensions(self._shape(operation.operands[1]))
            features = kernel[labels[1].index("o")]
            return 2 * outputs * math.prod(kernel) // features
        return 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


def _dimensions(shape: str) -> tuple[int, ...]:
    found = _SHAPE.match(shape)
    return _numbers(found[2]) if found else ()


def _bytes(shape: str) -> int:
    """Returns the size of an array, or of all arrays in a tuple."""
    total = 0
    for kind, dimensions in _SHAPE.findall(shape):
        bits = re.search(r"\d+$", kind)
        total += math.prod(_numbers(dimensions)) * (int(bits[0]) // 8 if bits else 1)
    return total
