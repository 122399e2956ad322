"""Runs in a peer's environment: reads one task a line, writes one answer a line. Needs numpy only."""

import json
import sys

import numpy as np


def load(path):
    """Return the arrays of a data file."""
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def first(hits):
    """Return the index of the first true element, None when there is none."""
    for index, hit in enumerate(hits):
        if hit:
            return index
    return None


def serve(tasks):
    """Answer until the input ends; `tasks` maps a name to a function of the other arguments."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a peer prints is not an answer
    tasks = {"hello": lambda: "hello", **tasks}
    for line in sys.stdin:
        arguments = json.loads(line)
        answers.write(json.dumps(tasks[arguments.pop("task")](**arguments)) + "\n")
        answers.flush()
