"""The train step, its state, and the training loop."""
