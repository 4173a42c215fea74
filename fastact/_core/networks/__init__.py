"""Passes of dense layers, losses, and steps of optimizers."""
