"""Convolution by the convolution theorem, written as matrix products.

The discrete Fourier transform turns a circular convolution into one small matrix
product over channels for each frequency. For h pixels and k kernel taps along an
axis, h + k // 2 samples suffice, because whatever wraps around falls outside the
image. (Zlateski, Jia, Li and Durand, FFT Convolutions are Faster than Winograd on
Modern CPUs, Here's Why, 2018; here the images are small enough to form one tile.)

A complex number is stored as two rows of a real matrix, the cosine part first. The
transform is orthonormal, so its adjoint is its inverse and gradients use the same
matrices.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.typing import Dtype
from jax import lax
from jaxtyping import Array, Float

from cifar_jax.ops import multilinear, shares
from cifar_jax.ops.product import product

# Contracted axes of matrix products, one product per index of the first axis.
_MATMUL = ((2,), (1,))

# Height and width.
Size = tuple[int, ...]


class _Transform(NamedTuple):
    """Matrices for one image and kernel size; f and g are frequencies along h and w.

    Attributes:
        rows: Maps image rows to frequencies, real to complex.
        columns: Maps image columns to frequencies, complex to complex.
        taps: Maps kernel taps to the spectrum of the correlation, real to complex.
    """

    rows: Float[np.ndarray, "f2 h"]
    columns: Float[np.ndarray, "g2 w2"]
    taps: Float[np.ndarray, "fg2 taps"]


@functools.cache
def _transform(image: Size, kernel: Size, origin: Size | None = None) -> _Transform:
    """Returns matrices for a kernel whose tap at `origin` is on the output pixel.

    By default, that is the tap which SAME padding places there.
    """
    if origin is None:
        origin = tuple((taps - 1) // 2 for taps in kernel)
    period_h, period_w = (
        size + taps // 2 for size, taps in zip(image, kernel, strict=True)
    )
    # The remaining frequencies along h are complex conjugates of these.
    f = np.arange(period_h // 2 + 1)
    is_own_conjugate = 2 * f % period_h == 0
    norm_h = np.sqrt(np.where(is_own_conjugate, 1, 2) / period_h)
    rows = norm_h[:, None] * np.exp(-_angles(f, np.arange(image[0]), period_h))
    g = np.arange(period_w)
    columns = np.exp(-_angles(g, np.arange(image[1]), period_w)) / np.sqrt(period_w)
    taps_h = np.exp(_angles(f, np.arange(kernel[0]) - origin[0], period_h))
    taps_w = np.exp(_angles(g, np.arange(kernel[1]) - origin[1], period_w))
    taps = np.einsum("fi,gj->fgij", taps_h, taps_w).reshape(len(f) * len(g), -1)
    return _Transform(
        _stack(rows, axis=1),
        _stack(np.concatenate([columns, 1j * columns], axis=1), axis=1),
        _stack(taps, axis=1),
    )


def _angles(frequency: np.ndarray, position: np.ndarray, period: int) -> np.ndarray:
    return 2j * np.pi * np.outer(frequency, position) / period


def _stack(z: np.ndarray, axis: int) -> np.ndarray:
    """Stacks real and imaginary parts as pairs of rows."""
    parts = np.stack([z.real, z.imag], axis)
    return parts.reshape(-1, z.shape[1]).astype(np.float32)


def _analyze(x: Float[Array, "h w c n"], kernel: Size) -> Float[Array, "fg c2 n"]:
    h, w, c, n = x.shape
    transform = _transform((h, w), kernel)
    z = product(jnp.asarray(transform.rows), x, ((1,), (0,)))
    z = _for_each(transform.columns, z.reshape(-1, 2 * w, c, n))
    return z.reshape(-1, 2 * c, n)


def _synthesize(
    z: Float[Array, "fg c2 n"], image: Size, kernel: Size
) -> Float[Array, "h w c n"]:
    """Computes the adjoint, which is also the inverse, of `_analyze`."""
    w = image[1]
    transform = _transform(image, kernel)
    c, n = z.shape[1] // 2, z.shape[2]
    z = _for_each(transform.columns.T, z.reshape(-1, len(transform.columns), c, n))
    z = z.reshape(-1, w, c, n)
    return product(jnp.asarray(transform.rows.T), z, ((1,), (0,)))


def _for_each(
    matrix: Float[np.ndarray, "i j"], z: Float[Array, "f j c n"]
) -> Float[Array, "f i c n"]:
    # With an unbatched left operand, the large right one would have to be transposed.
    matrices = jnp.broadcast_to(matrix, (len(z), *matrix.shape))
    return product(matrices, z, _MATMUL, each=(0,))


def _spectrum(
    kernel: Float[Array, "kh kw c k"], image: Size, origin: Size | None = None
) -> Float[Array, "fg k2 c2"]:
    """Returns the kernel as one real matrix per frequency, for complex channels."""
    kh, kw, c, k = kernel.shape
    taps = _transform(image, (kh, kw), origin).taps
    # The barrier keeps the transposition of the small operand out of the product,
    # which is fast only if neither operand is transposed.
    by_output = lax.optimization_barrier(kernel.swapaxes(2, 3))
    spectrum = jnp.matmul(taps, by_output.reshape(kh * kw, k * c))
    real, imag = jnp.moveaxis(spectrum.reshape(-1, 2, k, c), 1, 0)
    return jnp.block([[real, -imag], [imag, real]])


def _spectrum_adjoint(
    z: Float[Array, "fg k2 c2"], image: Size, kernel: Size
) -> Float[Array, "kh kw c k"]:
    k, c = z.shape[1] // 2, z.shape[2] // 2
    real = z[:, :k, :c] + z[:, k:, c:]
    imag = z[:, k:, :c] - z[:, :k, c:]
    spectrum = jnp.stack([real, imag], axis=1).reshape(-1, k * c)
    by_output = jnp.matmul(_transform(image, kernel).taps.T, spectrum)
    return by_output.reshape(*kernel, k, c).swapaxes(2, 3)


def conv(
    dtype: Dtype, x: Float[Array, "h w c n"], kernel: Float[Array, "kh kw c k"]
) -> Float[Array, "h w k n"]:
    """Convolves at stride 1 with SAME padding.

    The result differs from lax's by 5e-7 of its norm.
    """
    grad_x = functools.partial(_grad_x, dtype)
    grad_kernel = functools.partial(_grad_kernel, dtype, kernel.shape[:2])
    maps = (grad_x, grad_kernel, functools.partial(_convolve, dtype))
    return multilinear.apply(maps, x, kernel)


def _convolve(dtype: Dtype, x: Array, kernel: Array) -> Array:
    image, taps = x.shape[:2], kernel.shape[:2]
    z = _analyze(x, taps).astype(dtype)
    y = product(_spectrum(kernel, image), z, _MATMUL, each=(0,), dtype=dtype)
    return _synthesize(y, image, taps)


def _grad_x(dtype: Dtype, kernel: Array, dy: Array) -> Array:
    image, taps = dy.shape[:2], kernel.shape[:2]
    dz = _analyze(dy, taps).astype(dtype)
    # The adjoint of a correlation is the correlation with the flipped kernel. If the
    # kernel size is even, flipping moves the origin to the other side of the center.
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    spectrum = _spectrum(flipped, image, origin=tuple(size // 2 for size in taps))
    dx = product(spectrum, dz, _MATMUL, each=(0,), dtype=dtype)
    return _synthesize(dx, image, taps)


def _grad_kernel(dtype: Dtype, taps: Size, x: Array, dy: Array) -> Array:
    # XLA computes both only once: the other two maps have the same expressions.
    z, dz = (_analyze(values, taps).astype(dtype) for values in (x, dy))

    def of_shares(dz: Array, z: Array) -> Array:
        products = product(dz, z, ((2,), (2,)), each=(0,), dtype=dtype)
        return _spectrum_adjoint(products, dy.shape[:2], taps)

    return shares.sum_over_shares(of_shares, dz, z)
