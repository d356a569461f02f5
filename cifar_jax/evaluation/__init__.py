"""The predictions of trained networks, and how good they are."""
