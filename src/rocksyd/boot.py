"""Starts one of rocksyd's processes by path: ``python -I -S .../rocksyd/boot.py keeper ...``.

The keeper and the master run without ``site``, an application's zygote in whatever interpreter the application has; none of
them can count on rocksyd being importable. So the package is made importable from the folder this file is in, and nothing
else of that folder's surroundings is.
"""

import os
import sys

ROLES = {"keeper": "rocksyd.keeper.main", "master": "rocksyd.master.main", "zygote": "rocksyd.zygote.main"}


def install_package() -> None:
    """Make ``import rocksyd`` mean the package that holds this file, with no entry in ``sys.path``."""
    import importlib.util

    folder = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "rocksyd", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["rocksyd"] = package
    spec.loader.exec_module(package)


def main() -> None:
    """Run the role named by the first argument with the rest of them."""
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    install_package()
    import importlib

    role = importlib.import_module(ROLES[sys.argv[1]])
    sys.exit(role.main(sys.argv[2:]))


if __name__ == "__main__":
    main()
