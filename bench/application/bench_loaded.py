"""Importing this module loads the application: for peers that are told a module to import."""

import bench_shop

bench_shop.load()
