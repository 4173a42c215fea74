"""Calls that type checkers are to refuse: every line that ends with the word in a comment."""

import numpy as np

import fastact
from fastact.layers import LeakyReLU, Linear
from fastact.losses import MSELoss
from fastact.optimizers import SGD

x = np.ones(9, np.float32)

fastact.sigmoid()  # refused
fastact.sigmoid(x, x, x)  # refused
fastact.sigmoid(x=x)  # refused
fastact.sigmoid(x, negative_slope=0.1)  # refused
fastact.sigmoid(object())  # refused
fastact.sigmoid(x, out=[1.0])  # refused
fastact.sigmoid(x, casting="any")  # refused
fastact.sigmoid(x, order="X")  # refused
fastact.sigmoid(x, subok="yes")  # refused
fastact.sigmoid(x, unknown=1)  # refused
fastact.relu_backward(x)  # refused
fastact.relu_backward(grad=x, x=x)  # refused
fastact.leaky_relu(x, negative_slop=0.1)  # refused
fastact.leaky_relu(negative_slope=0.1)  # refused
fastact.leaky_relu(x, negative_slope=object())  # refused
fastact.leaky_relu_backward(x, negative_slope=0.1)  # refused
fastact.sigmoid.nonsense()  # refused
fastact.sigmoid_forward(x)  # refused
fastact.set_num_threads("two")  # refused
fastact.set_num_threads(1.5)  # refused
fastact.set_buffer_limit(None)  # refused
fastact.get_include("fastact.h")  # refused
count: str = fastact.get_num_threads()  # refused
LeakyReLU(slope=0.1)  # refused
Linear(9)  # refused
Linear(9, 3, "relu")  # refused
MSELoss().forward(x)  # refused
SGD(Linear(9, 3), learning_rate=0.1)  # refused
