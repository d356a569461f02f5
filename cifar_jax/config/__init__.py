"""The settings of a run, their flags, and the recipes that set many together."""
