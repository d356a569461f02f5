"""The train step, its state, and the loop that takes it."""
