"""Speaks to real daemons, in every way there is, what is nearly right; beside it a client looks at every reply.

    python -m tests.fuzz --minutes 60 [--seed 1] [--only clients,exec,jobs,files]

Every round has a seed of its own, which a finding names: `--seed N --rounds 1` holds it again. What ends the master, leaks a
descriptor or a process, loses or mixes a reply, or is a fault that the barrier had to catch, is a finding; it ends the program.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.stage import Stage
from tests.fuzz.starts import Starts
from tests.fuzz.talking import Callers, Clients, Jobs

BLOCK = 60
"""Rounds after which it is asked whether everything is as before."""
KINDS = {"clients": Clients, "exec": Callers, "jobs": Jobs}


def talk(folder: Path, seed: int, rounds: int, only: list[str], until: float = 0.0) -> Counter[str]:
    """``rounds`` rounds with one daemon. Returns how much was said in which dialect; raises AssertionError with a finding."""
    with Stage(folder) as stage:
        chance = random.Random(seed)
        for number in range(seed, seed + rounds):
            chance.seed(number)
            kinds = [kind for name, kind in KINDS.items() if name in only]
            kind = chance.choice(kinds)
            try:
                kind(stage, chance).round()
                if number % BLOCK == BLOCK - 1:
                    stage.unharmed()
            except BaseException:
                print(f"round of seed {number}: {kind.__name__}", file=sys.stderr)
                raise
            if until and time.monotonic() > until:
                break
        stage.unharmed()
        return stage.counts


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2000, help="rounds that one daemon lives (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**9), help="of the first round (default: any)"
    )
    parser.add_argument("--only", default=",".join([*KINDS, "files"]), help="what to speak to (default: %(default)s)")
    options = parser.parse_args()
    only = options.only.split(",")
    until, counts, seed = time.monotonic() + options.minutes * 60, Counter[str](), options.seed
    print(f"seed {seed}", flush=True)
    while time.monotonic() < until:
        with tempfile.TemporaryDirectory(prefix="rocksyd-fuzz-") as folder:
            try:
                if "files" in only:
                    counts += Starts(Path(folder) / "starts", random.Random(seed)).rounds(10)
                if set(only) & set(KINDS):
                    counts += talk(Path(folder) / "talk", seed, options.rounds, only, until)
            except AssertionError as error:
                print(f"FOUND, seed {seed}: {error}", flush=True)
                print(dict(counts))
                return 1
        seed += options.rounds
        print(dict(counts), flush=True)
    print(f"nothing found: {sum(counts.values())} lines, messages, orders and starts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
