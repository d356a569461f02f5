"""Wrappers around optimizers."""
