"""Tests that networks train, and that eight devices see the losses of one."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

# By the size of the images: a small network of each kind of block. Those of the other
# networks after pytorch-cifar take minutes to compile.
SMALL = {
    8: (
        "wrn(depth=10, width=1, dropout=0.3)",
        "senet18(width=8, depths=(1, 1), reduction=4)",
        "resnet20(width=8, depths=(1, 1, 1))",
        "densenet(depth=10, growth=4)",
        "resnext29(cardinality=4, width=2, depths=(1, 1))",
        "regnet_y_400mf(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), group_width=4)",
    ),
    32: (
        "lenet",
        "efficientnet_b0(width=0.1, depth=0.3)",
        "shufflenet(depths=(1, 1, 1))",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", SMALL)
def test_eight_devices_see_the_losses_of_one(size):
    done = subprocess.run(
        [sys.executable, "losses_on_devices.py", str(size), *SMALL[size]],
        cwd=pathlib.Path(__file__).parents[1],
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "True"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert tuple(found) == SMALL[size]
    for model, (on_one, on_eight) in found.items():
        assert len(on_one) == 3
        assert np.isfinite(on_one).all(), model
        np.testing.assert_allclose(on_eight, on_one, rtol=1e-5, err_msg=model)
