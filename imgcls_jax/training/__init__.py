"""From a config and data to trained parameters: losses, optimizers, schedules, steps, checkpoints and the loop."""
