"""Compares regular expressions with Python's re: reference_regex.py CASES.json

Each case is a pattern with texts and whether the whole of each was found to match.
"""
import json
import re
import sys

cases = json.load(open(sys.argv[1]))
count = 0
for case in cases:
    pattern = re.compile(case["pattern"], re.ASCII)
    for text, accepted in case["texts"]:
        count += 1
        if (pattern.fullmatch(text) is not None) != accepted:
            sys.exit(f"pattern {case['pattern']!r} text {text!r}: accepted {accepted}")
print(f"{count} texts of {len(cases)} patterns agree")
