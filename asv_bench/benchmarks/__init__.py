"""Benchmarks of fastact. The unit of all of them is seconds; docstrings say for what."""
