"""Scores of answers against references, with intervals: numbers in, numbers out.

A file here is one kind of answer; each function returns {metric: number}, and beside a
metric its 95 % interval as "<metric>_95": (low, high).
"""
