"""Outputs that are cut while they grow: what is read is the beginning, a mark, and the end, whatever comes when."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rocksyd.master.records import cutting

LIMIT = cutting.BOTH


def everything(path: str, most: int) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while True:
        begin, data, size = cutting.read(path, at, most)
        if data:
            found.append((begin, data))
        at = begin + len(data)
        if at >= size:
            return found


@settings(max_examples=25)
@given(st.lists(st.integers(min_value=1, max_value=3 * LIMIT), min_size=1, max_size=4), st.integers(10_000, 1 << 20))
def test_what_is_left_is_where_it_was_written(sizes: list[int], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "a.log")
        whole = bytearray()
        known = 0
        with open(path, "ab", buffering=0) as file:
            for number, size in enumerate(sizes):
                data = (b"%d:0123456789" % number) * (size // 8 + 1)
                file.write(data)
                whole += data
                known = cutting.cut(path, LIMIT, known)
        assert os.stat(path).st_size == len(whole)
        assert os.stat(path).st_blocks * 512 <= LIMIT + LIMIT // 16 + 4 * cutting.BLOCK
        pieces = everything(path, most)
        begin = LIMIT // 2 // cutting.BLOCK * cutting.BLOCK
        for at, data in pieces:
            if known and at < begin:
                data = data[: max(begin - cutting.MARK - at, 0)]
            assert data == whole[at : at + len(data)]
        kept = sum(len(data) for _, data in pieces)
        assert kept + known == len(whole)
        assert pieces[-1][0] + len(pieces[-1][1]) == len(whole)
