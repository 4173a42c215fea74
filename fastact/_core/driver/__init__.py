"""The driver of all kernels: layouts, blocks, conversions, rows. It knows no activation by name."""
