"""Devices and processes: sharding, strategies, compilation."""
