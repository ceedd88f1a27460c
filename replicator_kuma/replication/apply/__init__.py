"""One apply, in the order of time: prepare, stage, write, confirm, or revert."""
