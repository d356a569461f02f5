"""Every setting of a run: what it is, its flag, the recipes that set many at once."""
