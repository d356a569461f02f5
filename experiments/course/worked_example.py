"""One output of a convolution or pooling layer, worked out as on a blackboard."""

import dataclasses
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

# The course's f(x) = x w + b: nine ones, and b = [0].
KERNEL = np.ones((3, 3), np.float32)
BIAS = 0.0


@dataclasses.dataclass(frozen=True)
class Example:
    """An operation on an image, with one of its outputs highlighted.

    Attributes:
        title: Name of the operation.
        lesson: What the example shows.
        padded: The image, with NaN where it is padded.
        fill: The value of the padding; None if padding is ignored.
        window: Height and width of the window.
        stride: Vertical and horizontal stride of the window.
        output: Output of the operation.
        cell: Row and column of the highlighted output.
        form: How that output is computed from the values in the window.
    """

    title: str
    lesson: str
    padded: Float[np.ndarray, "padded_h padded_w"]
    fill: float | None
    window: tuple[int, int]
    stride: int
    output: Float[np.ndarray, "out_h out_w"]
    cell: tuple[int, int]
    form: Literal["sum", "max", "mean"]

    @property
    def under_window(self) -> tuple[slice, slice]:
        """Rows and columns of the padded image under the cell's window."""
        top, left = (self.stride * index for index in self.cell)
        height, width = self.window
        return np.s_[top : top + height, left : left + width]

    @property
    def arithmetic(self) -> str:
        """The calculation of the highlighted output, as text."""
        window = np.nan_to_num(self.padded[self.under_window])
        values = [f"{value:g}" for value in window.flat]
        products = zip(values, KERNEL.flat, strict=False)
        text = {
            "sum": " + ".join(f"{weight:g}x{value}" for value, weight in products)
            + f" + {BIAS:g}",
            "max": f"max({', '.join(values)})",
            "mean": f"({' + '.join(values).replace('+ -', '- ')}) / {len(values)}",
        }
        return f"{text[self.form]} = {self.output[self.cell]:g}"

    def record(self) -> dict[str, Any]:
        """Returns all fields as JSON values; padding is null in the image."""
        padded = np.where(np.isnan(self.padded), np.array(None), self.padded)
        return vars(self) | {
            "padded": padded.tolist(),
            "output": self.output.tolist(),
            "arithmetic": self.arithmetic,
        }
