#!/usr/bin/env python3
"""Writes the files of the built-in task, sorting six digits, into deploy/recipes/data.

  prompts.jsonl      {"prompt", "answer"}             on-policy training
  held_out.jsonl     {"prompt", "answer"}             evaluation; shares no prompt with the others
  completions.jsonl  {"prompt", "completion"}         supervised warm-up
  pairs.jsonl        {"prompt", "chosen", "rejected"} preference training

Seeded: running it again writes the same bytes.
"""
import json
import pathlib
import random

DIGITS = 6
OUT = pathlib.Path(__file__).resolve().parent.parent / 'recipes' / 'data'


def spoil(answer, rng):
    """A wrong answer of the kind a half-trained policy gives: in order, but with one or two digits
    that are not those of the prompt."""
    wrong = answer
    while wrong == answer:
        digits = list(answer)
        for _ in range(rng.randint(1, 2)):
            digits[rng.randrange(DIGITS)] = rng.choice('0123456789')
        wrong = ''.join(sorted(digits))
    return wrong


def write(name, rows):
    with open(OUT / name, 'w', encoding='utf-8', newline='\n') as file:
        for row in rows:
            file.write(json.dumps(row) + '\n')


def main():
    rng = random.Random(20240229)
    numbers = rng.sample(range(10**DIGITS), 9200)
    rows = []
    for number in numbers:
        digits = f'{number:0{DIGITS}d}'
        rows.append((f'sort {digits} = ', ''.join(sorted(digits))))
    OUT.mkdir(parents=True, exist_ok=True)
    write('held_out.jsonl', [{'prompt': p, 'answer': a} for p, a in rows[:200]])
    write('prompts.jsonl', [{'prompt': p, 'answer': a} for p, a in rows[200:3200]])
    write('completions.jsonl', [{'prompt': p, 'completion': a} for p, a in rows[3200:5200]])
    write('pairs.jsonl', [{'prompt': p, 'chosen': a, 'rejected': spoil(a, rng)}
                          for p, a in rows[5200:]])


if __name__ == '__main__':
    main()
