"""Operations that networks need and Flax lacks."""

from cifar_jax.ops.local_response_norm import local_response_norm

__all__ = ["local_response_norm"]
