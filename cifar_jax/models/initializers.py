"""Initializers of the Torch code that many networks were published with."""

from flax.linen.initializers import variance_scaling

# For convolutions: normal, with variance 2 divided by the number of outputs times the
# size of the window. He et al. (2015) derive it from the gradients, as equation 14; the
# usual he_normal, from the activations, has the number of inputs instead.
he_normal_of_outputs = variance_scaling(2.0, "fan_out", "normal")
# Torch's default for all layers, and PyTorch's: uniform up to 1 / sqrt(inputs).
torch_uniform = variance_scaling(1 / 3, "fan_in", "uniform")
