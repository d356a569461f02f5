"""The demo command's local page and its server."""
