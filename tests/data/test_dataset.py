import jax
import pytest

from cifar_jax.data.dataset import empty_images


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="others have own memory")
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_the_cpu_uses_images_where_they_lie(count):
    images = empty_images(count)
    images[...] = 7
    assert images.shape == (count, 32, 32, 3)
    on_device = jax.device_put(images)
    assert on_device.unsafe_buffer_pointer() == images.ctypes.data
