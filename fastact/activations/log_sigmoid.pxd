"""log_sigmoid, log(sigmoid(x)), and its gradient, grad * sigmoid(-x): softplus from the other side.

Method: -softplus(-x), and the gradient of softplus at -x.
Error: that of `softplus`, whose bits it has.
Range: [-inf, -0.0], monotone; -inf gives -inf, inf gives -0.0, NaN gives NaN.
"""

from fastact.activations.arithmetic cimport real
from fastact.activations.softplus cimport (
    softplus, softplus_backward, softplus_backward_narrow, softplus_narrow,
)


cdef inline real log_sigmoid(real x) noexcept nogil:
    """-softplus(-x)."""
    return -softplus(-x)


cdef inline real log_sigmoid_backward(real grad, real x) noexcept nogil:
    """grad * s(-x), the gradient of softplus at -x."""
    return softplus_backward(grad, -x)


cdef inline float log_sigmoid_narrow(float x) noexcept nogil:
    """log_sigmoid of a number of a narrower type; the caller rounds the result to that type."""
    return -softplus_narrow(-x)


cdef inline float log_sigmoid_backward_narrow(float grad, float x) noexcept nogil:
    """log_sigmoid_backward for a narrower type; the caller rounds the result to that type."""
    return softplus_backward_narrow(grad, -x)
