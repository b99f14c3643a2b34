"""The results in files: matrix.json, and the page of the manual made from it and from the knowledge of ``rocksyd doctor``.

What must live here: the page. What this file must not know: how a library is tried.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

from bench.fork_safety.matrix import STAGES, Row
from rocksyd.doctor.findings import HOOK, SAFE, UNSAFE
from rocksyd.doctor.libraries import PATH, libraries

MATRIX = Path(__file__).with_name("matrix.json")
KNOWLEDGE = Path(PATH)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "fork-safety.md"
VERDICTS = {SAFE: "safe", HOOK: "safe with a hook", UNSAFE: "not safe"}
HEAD = """\
# Libraries and forks

What happens to a library that the preload has loaded, and perhaps used, when workers are forked. Each was tried in a real
zygote: three workers, forked before it was used in the parent and after, used it at the same moment. *Safe*: nothing
needs to be done. *Safe with a hook*: importing it is, and so is using it before the fork with [hooks](how-to/hooks.md)
around it. *Refused*: it left a thread or a socket, so the daemon does not take the application (unless it has `unsafe =
"warn"`). Whatever is first made in a job is safe wherever importing is: that is the simplest cure. [`rocksyd
doctor`](how-to/doctor.md) says what an application has left, and knows this table.

Made by `python -m bench.fork_safety --write`; do not edit. {machine}

| library | verdict | imported | made | used |
| --- | --- | --- | --- | --- |
"""
WHY = """\

*Imported*, *made* (a client, a connection, an engine), *used*: what had been done before the fork. *Works, refused*: it works,
but leaves a thread or a socket.

## What was seen, and what to do

"""
UNTRIED = """\

## Not tried here

Known from their own documentation, and warned of by `rocksyd doctor`:

"""


def line(row: Row) -> str:
    """A row for the terminal."""
    stages = "; ".join(f"{stage}: {row.stages[stage] or 'works'}" for stage in STAGES if stage in row.stages)
    return f"{row.name} {row.version}: {VERDICTS[row.verdict]} ({stages})"


def read() -> list[Row]:
    """The rows that are kept."""
    return [Row(**row) for row in json.loads(MATRIX.read_text())["rows"]] if MATRIX.exists() else []


def write(rows: list[Row]) -> None:
    """Put them in the place of those kept of the same libraries, and make the page anew."""
    kept = {row.name: row for row in [*read(), *rows]}
    machine = f"Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}."
    ordered = [kept[name]._asdict() for name in sorted(kept)]
    MATRIX.write_text(json.dumps({"machine": machine, "rows": ordered}, indent=1) + "\n")
    KNOWLEDGE.write_text(noted(KNOWLEDGE.read_text(), rows))
    PAGE.write_text(page())


def noted(text: str, rows: list[Row]) -> str:
    """The text of libraries.toml with the versions that were tried. Verdicts and words are for a person to write."""
    for row in rows:
        module = f'"{row.module}"' if "." in row.module else row.module
        head, found, rest = text.partition(f"\n[{module}]\n")
        table, gap, rest = rest.partition("\n\n")
        lines = [line for line in table.split("\n") if not line.startswith("tested = ")]
        at = next((n for n, line in enumerate(lines, 1) if line.startswith("verdict = ")), len(lines))
        if found:
            lines.insert(at, f'tested = "{row.version}"')
            text = head + found + "\n".join(lines) + gap + rest
    return text


def page() -> str:
    """The text of docs/fork-safety.md."""
    rows, known = read(), {entry["name"]: entry for entry in libraries().values()}
    machine = json.loads(MATRIX.read_text())["machine"]
    text = HEAD.format(machine=f"Tried with {machine}")
    for row in rows:
        cells = [_short(row.stages[stage]) for stage in STAGES[:3]]
        text += f"| {row.name} {row.version} | {VERDICTS[row.verdict]} | {' | '.join(cells)} |\n"
    text += WHY
    for row in rows:
        if row.verdict != SAFE:
            entry = known.get(row.name, {"why": "", "cure": ""})
            seen = "; ".join(f"{stage}, {row.stages[stage]}" for stage in STAGES[:3] if row.stages[stage])
            hook = f" Hook that was tried: {row.hook}." if row.hook else ""
            text += f"* **{row.name}**: {entry['why']}. {_sentence(entry['cure'])}{hook} Seen: {seen}.\n"
    tried = {row.name for row in rows}
    untried = [entry for entry in known.values() if entry["name"] not in tried]
    if untried:
        text += UNTRIED
        for entry in sorted(untried, key=lambda one: str(one["name"])):
            text += f"* **{entry['name']}**: {entry['why']}. {_sentence(entry['cure'])}\n"
    return text


def _short(problem: str) -> str:
    """What went wrong, in a word or two."""
    for beginning, word in _WORDS.items():
        if problem.startswith(beginning):
            return word
    return "fails" if problem else "works"


_WORDS = {
    "refused: ": "works, refused",
    "wrong answer: it was for another process": "wrong answers",
    "two processes drew": "same numbers",
    "hangs": "hangs",
    "the worker died": "dies",
    "the zygote died": "dies",
}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def disagreements(rows: list[Row]) -> list[str]:
    """Where the knowledge says something else than what was found."""
    known = libraries()
    found = []
    for row in rows:
        entry = known.get(row.module) or next((one for one in known.values() if one["name"] == row.name), None)
        if entry is None:
            found.append(f"libraries.toml has nothing on {row.name}, which was found {VERDICTS[row.verdict]}")
        elif (entry["verdict"], entry["tested"]) != (row.verdict, row.version):
            said = f"{VERDICTS[entry['verdict']]} in {entry['tested'] or 'no version'}"
            found.append(f"libraries.toml calls {row.name} {said}, it was found {VERDICTS[row.verdict]} in {row.version}")
    return found
