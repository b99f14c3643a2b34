"""Stacks as text and as a picture, and what is kept of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from rocksyd.companions import flames, profile_store
from rocksyd.companions.profile_store import Profile, Profiles
from rocksyd.companions.profiling import _why

SAID = """\
<module> (boot.py:50);_called (rocksyd/worker/job.py:9);daily (shop/jobs.py:7);price (shop/p.py:1) 30
main (rocksyd/worker/main.py:1);daily (shop/jobs.py:7) 10
daily (shop/jobs.py:7);price (shop/p.py:1);price (shop/p.py:1);<lambda> (shop/p.py:9) 2
helper (shop/rocksyd/jobs.py:1);_called (rocksyd/worker/job.py:9) 1
_sleep (rocksyd/worker/main.py:1) 5

py-spy> nonsense
"""
DAILY, PRICE = "daily (shop/jobs.py:7)", "price (shop/p.py:1)"


def test_of_a_stack_the_daemons_own_frames_below_the_job_are_left_out() -> None:
    stacks = flames.read(SAID)
    assert stacks == {
        (DAILY, PRICE): 30, (DAILY,): 10, (DAILY, PRICE, PRICE, "<lambda> (shop/p.py:9)"): 2,
        ("helper (shop/rocksyd/jobs.py:1)", "_called (rocksyd/worker/job.py:9)"): 1, ("_sleep (rocksyd/worker/main.py:1)",): 5,
    }  # fmt: skip
    text, left = flames.write(stacks)
    assert (flames.read(text), left) == (stacks, 0)


def test_what_is_too_long_loses_what_was_seen_least() -> None:
    text, left = flames.write(flames.read(SAID), len(f"{DAILY};{PRICE} 30\n{DAILY} 10\n"))
    assert text.splitlines() == [f"{DAILY};{PRICE} 30", f"{DAILY} 10"]
    assert left == 8


def test_a_function_that_calls_itself_counts_once() -> None:
    (first, second, *_) = flames.totals(flames.read(SAID))
    assert first == (30, 32, PRICE)
    assert second == (10, 42, DAILY)


def test_the_picture_has_a_box_for_each_frame_as_wide_as_it_was_seen() -> None:
    picture = ET.fromstring(flames.svg(flames.read(SAID), "4711 & <more>"))
    space = "{http://www.w3.org/2000/svg}"
    boxes = {
        title.text: float(group.find(f"{space}rect").attrib["width"])  # type: ignore[union-attr]
        for group in picture.findall(f"{space}g")
        if (title := group.find(f"{space}title")) is not None
    }
    assert boxes[f"{DAILY}: 42 of 48 samples, 87.5 %"] == 1050.0
    assert boxes[f"{PRICE}: 32 of 48 samples, 66.7 %"] == 800.0
    assert len(boxes) == 7
    assert "script" not in {one.tag.removeprefix(space) for one in picture.iter()}
    assert ET.fromstring(flames.svg(Counter(), "nothing")).findall(f"{space}g") == []


def test_the_latest_profiles_are_kept_and_flags_end_by_themselves(tmp_path: Path) -> None:
    kept = Profiles(str(tmp_path / "profiles"))
    assert kept.all() == []
    for number in range(profile_store.KEPT + 3):
        kept.keep(Profile(f"k/{number % 202}", "daily", "", 1, float(number), stacks=flames.read(SAID)))
    assert len(kept.all()) == profile_store.KEPT
    assert kept.all()[0].key == "k/0"
    assert kept.found("key", "k/0")[0].stacks == flames.read(SAID)
    assert kept.found("key", "k/1") == []
    kept.put_flag("target:daily", {"target": "daily", "until": 50.0})
    assert Profiles(str(tmp_path / "profiles")).flags(49.0) == {"target:daily": {"target": "daily", "until": 50.0}}
    assert kept.flags(50.0) == {}
    assert kept.drop_flag("target:daily")
    assert not kept.drop_flag("target:daily")


def test_why_nothing_was_seen_is_said_with_what_to_do() -> None:
    assert "ptrace_scope" in _why("Permission Denied: Try running again with elevated permissions by going 'sudo env ...'")
    assert "had ended" in _why("Error: Failed to open process\nReason: No such process (os error 3)")
    assert _why("Error: odd\n\n") == "py-spy says: Error: odd"
