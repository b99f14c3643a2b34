import sys

import pytest


@pytest.mark.parametrize("number", [1, 2])
def test_sum(number, capsys):
    print("captured")
    assert capsys.readouterr().out == "captured\n"
    assert number + 1 == 2


def test_main():
    assert sys.modules["__main__"].__name__ == "__main__"
