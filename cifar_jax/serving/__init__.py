"""The local page of the demo command, and what answers it."""
