#!/usr/bin/python3
"""Prints "PASSED FAILED" summed over JUnit files.

A Criterion program is one case for ctest, but says in its output how many tests it ran ("Synthesis"),
and these are what counts.  A program that fails without saying so (a crash, a timeout) counts as one.
"""
import re
import sys
import xml.etree.ElementTree as tree

SYNTHESIS = re.compile(r"Tested:\D*(\d+)\D+Passing:\D*(\d+)\D+Failing:\D*(\d+)\D+Crashing:\D*(\d+)")
COLOUR = re.compile(r"\x1b?\[[0-9;]*m")


def count_case(case):
    failed = any(case.find(kind) is not None for kind in ("failure", "error"))
    if case.find("skipped") is not None or case.get("status") in ("disabled", "notrun"):
        return 0, 0
    output = COLOUR.sub("", case.findtext("system-out") or "")
    found = SYNTHESIS.findall(output)
    if not found:
        return (0, 1) if failed else (1, 0)
    passed = sum(int(row[1]) for row in found)
    wrong = sum(int(row[2]) + int(row[3]) for row in found)
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
