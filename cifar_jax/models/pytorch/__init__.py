"""Weights from PyTorch: the layer names of its libraries, and their files."""
