"""All formulas in one namespace: ``cimport fastact.activations as formula``.

Submodules have the names of their functions. Here, `sigmoid` is the function, not the submodule.
"""

from fastact.activations.arithmetic cimport absolute, to_odd_float
from fastact.activations.gelu cimport gelu, gelu_backward, gelu_backward_narrow, gelu_narrow
from fastact.activations.gelu_tanh cimport (
    gelu_tanh, gelu_tanh_backward, gelu_tanh_backward_narrow, gelu_tanh_narrow,
)
from fastact.activations.half cimport from_bfloat, from_half, to_bfloat, to_half
from fastact.activations.leaky_relu cimport leaky_relu, leaky_relu_backward
from fastact.activations.log_sigmoid cimport (
    log_sigmoid, log_sigmoid_backward, log_sigmoid_backward_narrow, log_sigmoid_narrow,
)
from fastact.activations.relu cimport relu, relu_backward, relu_half
from fastact.activations.sigmoid cimport (
    sigmoid, sigmoid_backward, sigmoid_backward_from_output, sigmoid_backward_narrow, sigmoid_narrow,
)
from fastact.activations.silu cimport silu, silu_backward, silu_backward_narrow, silu_narrow
from fastact.activations.softplus cimport (
    softplus, softplus_backward, softplus_backward_narrow, softplus_narrow,
)
from fastact.activations.tanh cimport tanh, tanh_backward, tanh_backward_narrow
