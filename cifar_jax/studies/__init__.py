"""Studies: many training runs, by setting and seed, and what they show."""
