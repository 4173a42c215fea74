"""relu, max(0, x), and its gradient.

Method: a comparison; that of 16-bit types is one of their bits.
Error: 0 ULP: every result is exact.
Range: [0, inf], monotone; -0.0 gives +0, NaN gives NaN; the gradient is 0 for x <= 0.
"""

from libc.stdint cimport int16_t, uint16_t

from fastact.activations.arithmetic cimport number, real


cdef inline number relu(number x) noexcept nogil:
    return 0 if x <= 0 else x


cdef inline uint16_t relu_half(uint16_t half, uint16_t infinity) noexcept nogil:
    """relu of a 16-bit type, given the bits of the number and of infinity in that type."""
    cdef int16_t signed_half = <int16_t> half
    cdef int16_t size = <int16_t> (half & 0x7FFF)
    cdef uint16_t positive = half if signed_half > 0 else 0
    return half if size > <int16_t> infinity else positive


# The NaN check comes last here and in `leaky_relu_backward`. Placed first, it costs up to 50% more.

cdef inline real relu_backward(real grad, real x) noexcept nogil:
    cdef real result = grad if x > 0 else 0
    return result if x == x else x
