"""Tests the activations of a network and the mosaics of its maps."""

import numpy as np

from cifar_jax.evaluation.feature_maps import mosaic


def test_a_mosaic_keeps_every_map():
    maps = np.arange(24 * 24 * 5, dtype=float).reshape(24, 24, 5)
    grid = mosaic(maps)
    assert grid.shape == (2 * 25 - 1, 3 * 25 - 1)
    np.testing.assert_array_equal(grid[25:, 25:49], maps[..., 4])
    assert np.isnan(grid[25:, 50:]).all()
    assert np.isnan(grid[24]).all()
