"""What is minimized and how: losses, optimizers, schedules and averages."""
