"""Layers: forward and backward passes that keep the intermediate results between them.

>>> import numpy as np
>>> from fastact.layers import LeakyReLU, Linear, Sequential
>>> layer = LeakyReLU(negative_slope=0.2)
>>> layer(np.array([-1.0, 2.0]))  # computes, keeps nothing
array([-0.2,  2. ])
>>> y = layer.forward(np.array([-1.0, 2.0]))
>>> layer.backward(np.array([1.0, 1.0]))
array([0.2, 1. ])
>>> model = Sequential(Linear(2, 3, layer, seed=0), Linear(3, 1, seed=1))
>>> model(np.ones((5, 2), np.float32)).shape
(5, 1)
"""

# ruff: noqa: F403 -- the __all__ of each module says what is public
from fastact.layers._activations import *
from fastact.layers._base import *
from fastact.layers._linear import *
from fastact.layers._sequential import *
from fastact.layers._softmax import *

for _value in list(globals().values()):
    # A pickle stores the module of a class. It should be the public module.
    if isinstance(_value, type):
        _value.__module__ = __name__
