"""Runs all tests: `python3 -m tests [--no-skips]` in tools/python. What was skipped is counted and named."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent


def main() -> int:
    suite = unittest.TestLoader().discover(str(HERE), top_level_dir=str(HERE.parent))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    bad = len(result.failures) + len(result.errors)
    print(f"tests: {result.testsRun} run, {bad} failed, {len(result.skipped)} skipped")
    for test, why in result.skipped:
        print(f"skipped: {test}: {why}")
    if result.testsRun == 0 or "--no-skips" in sys.argv[1:] and result.skipped:
        return 1
    return 0 if result.wasSuccessful() else 1


sys.exit(main())
