"""The commands about the daemon itself: serve, check-config, restart, reload, stop, drain."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from rocksyd.cli.arguments import client
from rocksyd.cli.output import json_line, say, write
from rocksyd.client.endpoint import CONFIG_NAME, find_config
from rocksyd.errors import ConfigError

if TYPE_CHECKING:
    from rocksyd.config import Config, PoolConfig

REFUSED = 1


def serve(options: argparse.Namespace) -> int:
    """Check the configuration, then become the daemon (or start it in the background)."""
    path = config_path(options)
    from rocksyd import config  # only these two commands read a whole configuration

    loaded = config.load(path)
    from rocksyd.keeper import launch

    if not options.daemon and options.log_file is None and sys.stderr.isatty():
        from rocksyd.cli.banner import banner

        sys.stderr.write(banner(loaded))

    return launch.serve(path, daemon=options.daemon, pid_file=options.pid_file, log_file=options.log_file)


def check_config(options: argparse.Namespace) -> int:
    """Say what is wrong, all of it, or what is set up."""
    path = config_path(options)
    from rocksyd import config

    try:
        loaded, errors = config.everything(path)
    except ConfigError as error:
        loaded, errors = None, str(error).splitlines()
    if loaded is not None and loaded.scripts:
        from rocksyd.cli.schedule import problems

        errors = [*errors, *problems(loaded)]
    if loaded is None or errors:
        if options.json:
            write(json_line({"ok": False, "config": path, "errors": errors}))
        else:
            write("".join(f"{line}\n" for line in errors))
        return REFUSED
    listen = [str(address) for address in loaded.listen]
    companions = {name: [text for text, _ in companion.listen] for name, companion in loaded.companions.items()}
    scripts = _scripts(loaded)
    if options.json:
        apps = {
            name: {
                "path": app.path,
                "pm": app.pool.pm,
                "max_workers": app.pool.max_workers,
                "pools": {pool: {"pm": p.pm, "max_workers": p.max_workers} for pool, p in app.every_pool().items()},
            }
            for name, app in loaded.apps.items()
        }
        write(
            json_line({"ok": True, "config": path, "listen": listen, "apps": apps, "companions": companions, "scripts": scripts})
        )
        return 0
    lines = [f"{path}: OK", *(f"  listens at {address}" for address in listen)]
    for name, app in loaded.apps.items():
        lines.append(f"  application {name} in {app.path}: pool {_pool(app.pool)}")
        lines += [f"    pool {pool}: {_pool(policy)}" for pool, policy in app.every_pool().items() if pool != name]
    for name, addresses in companions.items():
        lines.append(f"  companion {name}" + (f" at {', '.join(addresses)}" if addresses else ""))
    lines += [f"  script {name}: {schedule}" for name, schedule in scripts.items()]
    write("\n".join(lines) + "\n")
    return 0


def _scripts(loaded: Config) -> dict[str, str]:
    if not loaded.scripts:
        return {}
    from rocksyd.cli.schedule import sentences

    return sentences(loaded)


def _pool(policy: PoolConfig) -> str:
    workers = "1 worker" if policy.max_workers == 1 else f"{policy.max_workers} workers"
    return f"{policy.pm}, at most {workers}"


def config_path(options: argparse.Namespace) -> str:
    """The configuration's absolute path; symbolic links stay, so that a deploy that switches one is seen."""
    path = options.config or find_config()
    if not path:
        raise ConfigError(f"no {CONFIG_NAME} in {os.getcwd()} or above: name it with -c FILE")
    return os.path.abspath(path)


def restart(options: argparse.Namespace) -> int:
    """Restart; returns when the new code serves."""
    with client(options) as daemon:
        return _reached(options, daemon.request("restart", wait=True), "restarted")


def reload(options: argparse.Namespace) -> int:
    """Reload; returns when the new configuration is in force."""
    with client(options) as daemon:
        return _reached(options, daemon.request("reload", wait=True), "reloaded")


def drain(options: argparse.Namespace) -> int:
    """Drain; returns when nothing runs or waits any more."""
    with client(options) as daemon:
        return _reached(options, {"generation": daemon.drain()}, "drained")


def _reached(options: argparse.Namespace, answer: dict[str, Any], word: str) -> int:
    """Whether everything is where it was to be: a service that goes on in the code before has its own line, and status 1."""
    kept = answer.get("kept") or {}
    if not options.quiet:
        write(json_line(answer) if options.json else f"{word}: generation {answer['generation']}\n")
    for name, why in kept.items():
        say(f"service {name} goes on in the code before: {why}")
    return 1 if kept else 0


def stop(options: argparse.Namespace) -> int:
    """Stop; returns when the daemon is gone, or with ``--no-wait`` when it has taken the order."""
    with client(options) as daemon:
        try:
            daemon.stop(wait=not options.no_wait)
        except KeyboardInterrupt:
            say("the daemon goes on stopping")
            raise
    if options.json:
        write(json_line({"stopped": not options.no_wait}))
    return 0
