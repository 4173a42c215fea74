"""leaky relu and its gradient."""

from fastact.activations.arithmetic cimport real


cdef inline real leaky_relu(real x, real negative_slope) noexcept nogil:
    return x if x > 0 else negative_slope * x


cdef inline real leaky_relu_backward(real grad, real x, real negative_slope) noexcept nogil:
    cdef real result = grad if x > 0 else negative_slope * grad
    return result if x == x else x
