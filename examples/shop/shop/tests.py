"""Tests of the price index and, cold, of the jobs (for these rocksyd has to be installed)."""

from __future__ import annotations

import asyncio
from unittest import TestCase

from django.test import TestCase as DatabaseTestCase

from shop import jobs, prices


class Prices(TestCase):
    def test_search_finds_every_word_by_its_beginning(self) -> None:
        found = prices.load().search("oak lam", limit=3)
        self.assertEqual(len(found), 3)
        self.assertTrue(all("oak lamp" in article.name for article in found))

    def test_search_for_nothing_finds_nothing(self) -> None:
        self.assertEqual(prices.load().search(""), [])
        self.assertEqual(prices.load().search("qqq"), [])

    def test_an_article_nobody_sells(self) -> None:
        with self.assertRaises(KeyError):
            prices.load().best("S999999")


class Jobs(DatabaseTestCase):
    """A job is still the function it was: called directly it runs here and now."""

    def test_quotes(self) -> None:
        self.assertEqual(len(jobs.quotes("oak lam", limit=2)), 2)

    def test_compare_answers_every_query(self) -> None:
        answers = asyncio.run(jobs.compare(["oak lam", "qqq"]))
        self.assertEqual(answers["qqq"], None)
        self.assertGreater(answers["oak lam"], 0)

    def test_broken(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "always fails"):
            jobs.broken()

    def test_leave(self) -> None:
        with self.assertRaises(SystemExit) as caught:
            jobs.leave(5)
        self.assertEqual(caught.exception.code, 5)

    def test_shell(self) -> None:
        self.assertEqual(jobs.shell("echo out; echo err >&2"), "out")
