"""Benchmarks of fastact: `times` is the large table, the other modules are the history.

Lower is better everywhere. Every `version` is explicit. By default it is a hash of the code, so
that any edit would end the history. Raise it when the meaning of a figure changes.
"""
