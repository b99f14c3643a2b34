"""The state of a daemon: looked after, backed up, restored, killed at any moment."""
