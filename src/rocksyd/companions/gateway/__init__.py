"""The companion ``gateway``: HTTP in front of the daemon. Begins at ``main``."""
