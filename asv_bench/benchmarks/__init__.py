"""Benchmarks of fastact: `times` is the large table, the other modules are the history.

Lower is better everywhere. `version` is explicit everywhere: by default it is a hash of the
code, and any edit would end the history. Raise it when the meaning of a figure changes.
"""
