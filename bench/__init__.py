"""The measurements behind docs/performance.md: ``python -m bench [--quick] [names...]``."""
