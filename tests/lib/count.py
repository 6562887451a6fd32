#!/usr/bin/python3
"""Prints "PASSED FAILED" summed over JUnit files.

A Criterion program is one case for ctest, but says in its output how many tests it ran ("Synthesis"),
and these are what counts.  A program that fails without saying so (a crash, a timeout) counts as one.
"""
import re
import sys
import xml.etree.ElementTree as tree

SYNTHESIS = re.compile(r"Tested:\D*(\d+)\D+Passing:\D*(\d+)\D+Failing:")
COLOUR = re.compile(r"\x1b?\[[0-9;]*m")


def count_case(case):
    failed = any(case.find(kind) is not None for kind in ("failure", "error"))
    skipped = case.find("skipped")
    if skipped is not None:  # ctest "skips" a program that could not be built
        return (0, 1) if "Unable to find" in skipped.get("message", "") else (0, 0)
    output = COLOUR.sub("", case.findtext("system-out") or "")
    found = [(int(tested), int(passing)) for tested, passing in SYNTHESIS.findall(output)]
    if not found:
        return (0, 1) if failed else (1, 0)
    passed = sum(passing for _, passing in found)
    wrong = sum(tested - passing for tested, passing in found)
    return passed, max(wrong, 1 if failed else 0)


def main(paths):
    passed = failed = 0
    for path in paths:
        try:
            cases = list(tree.parse(path).iter("testcase"))
        except (OSError, tree.ParseError) as error:
            print(f"count: {path}: {error}", file=sys.stderr)
            failed += 1
            continue
        for case in cases:
            good, bad = count_case(case)
            passed += good
            failed += bad
    print(passed, failed)


main(sys.argv[1:])
