"""leaky relu, x for x > 0 and negative_slope * x elsewhere, and its gradient.

Method: a comparison, and a product that is rounded once.
Error: 0.5 ULP.
Range: any, for slopes of every size and sign; 0 gives negative_slope * 0, NaN gives NaN.
"""

from fastact.activations.arithmetic cimport real


cdef inline real leaky_relu(real x, real negative_slope) noexcept nogil:
    return x if x > 0 else negative_slope * x


cdef inline real leaky_relu_backward(real grad, real x, real negative_slope) noexcept nogil:
    # One product, with a factor: a choice between two values would load the gradient twice.
    cdef real factor = 1 if x > 0 else negative_slope
    cdef real result = factor * grad
    return result if x == x else x
