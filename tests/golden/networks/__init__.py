"""The networks in PyTorch, one file per family, with the layer names of cifar_jax.

Each file defines NETWORKS, which maps texts as for --model to functions that create the
network in PyTorch. `golden.make_networks` computes the .npz files next to them.
"""
