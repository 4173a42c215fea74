"""The formulas, for compiled code: one .pxd per activation. Nothing is imported at run time."""
