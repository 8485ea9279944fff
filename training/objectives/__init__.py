"""Loss, optimiser and one training step, one file per kind of task."""
