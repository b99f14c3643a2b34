"""Starts one of rocksyd's processes by path: ``python -I -S .../rocksyd/boot.py keeper ...``.

The keeper and the master run without ``site``, an application's zygote in whatever interpreter the application has, a companion
with ``site`` but without what the environment and a user would add; none of them can count on rocksyd being importable. So the
package is made importable from the folder this file is in, and nothing else of that folder's surroundings is. Symbolic links on
the way to that folder are resolved once: a deploy that switches one while this process runs, or while it starts, does not give it
modules of two versions.
"""

import os
import sys

ROLES = {
    "keeper": "rocksyd.keeper.main",
    "master": "rocksyd.master.main",
    "zygote": "rocksyd.zygote.main",
    "doctor": "rocksyd.doctor.inside.examination",
    "companion": "rocksyd.companions.main",
}


def install_package() -> None:
    """Make ``import rocksyd`` mean the package that holds this file, with no entry in ``sys.path``."""
    import importlib.util

    folder = os.path.dirname(os.path.realpath(__file__))
    spec = importlib.util.spec_from_file_location(
        "rocksyd", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    package.started_by = os.path.abspath(__file__)  # type: ignore[attr-defined]  # with its links: the next version comes by them
    sys.modules["rocksyd"] = package
    spec.loader.exec_module(package)


def main() -> None:
    """Run the role named by the first argument with the rest of them."""
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    try:
        install_package()
        import importlib

        role = importlib.import_module(ROLES[sys.argv[1]])
    except Exception:
        if sys.argv[1] == "master":
            _tell_keeper_why()
        raise
    sys.exit(role.main(sys.argv[2:]))


def _tell_keeper_why() -> None:
    """A master whose code cannot even be imported says PREPARE_FAILED, so that who ordered the restart learns the reason.

    Written by hand: the module that is broken may be the one that knows messages and channels.
    """
    import json
    import traceback

    try:
        os.write(3, json.dumps(["PrepareFailed", {"reason": traceback.format_exc()}]).encode()[:100_000])
    except OSError:
        return  # started by hand, with no keeper to tell


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # A process that multiprocessing has started afresh (not by a fork) for a job: its modules import rocksyd, too.
    install_package()
