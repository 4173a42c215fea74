"""The driver of all kernels: plans, tiles, conversions, rows. It knows no activation by name."""
