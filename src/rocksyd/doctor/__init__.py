"""What ``rocksyd doctor`` knows and does; the command itself is ``cli.doctor``.

``inside`` runs in the application's interpreter: it may import what a zygote may, and nothing else of this package. The rest runs
in the command's own process. No code here: ``boot.py doctor`` imports this package by path.
"""
