"""Conversions between float32 and the 16-bit types, float16 and bfloat16.

Method: integer arithmetic on the bits.
Error: 0 ULP from 16 bits, 0.5 ULP to 16 bits: to nearest, ties to even.
Range: any; too large a number gives infinity, NaN a quiet NaN with the upper bits of its payload.
"""

from libc.stdint cimport int32_t, uint16_t, uint32_t

from fastact.activations.arithmetic cimport float_bits


# ------------------------------------------------------------ IEEE 754 binary16

cdef inline float from_half(uint16_t half) noexcept nogil:
    """The exact value of a float16, given its bits."""
    cdef int32_t size = half & 0x7FFF
    cdef float_bits normal, subnormal, result
    # 112 = 127 - 15 is the difference of the biases. Infinity and NaN have the
    # largest exponent in both types.
    cdef uint32_t bias = 112 << 23, twice = 224 << 23
    normal.bits = (<uint32_t> size << 13) + (bias if size < 0x7C00 else twice)
    subnormal.value = <float> size * <float> 5.960464477539063e-08       # 2**-24
    result.bits = subnormal.bits if size < 0x0400 else normal.bits
    result.bits |= (<uint32_t> half & 0x8000) << 16
    return result.value


cdef inline uint16_t to_half(float x) noexcept nogil:
    """The bits of the float16 nearest to x, ties to even."""
    cdef float_bits value, tiny
    value.value = x
    cdef uint32_t sign = (value.bits >> 16) & 0x8000
    cdef uint32_t size = value.bits & 0x7FFFFFFF
    # Normal: round off 13 bits by integer arithmetic. A carry propagates to the exponent.
    cdef uint32_t normal = (size + 0x0FFF + ((size >> 13) & 1) - (<uint32_t> 112 << 23)) >> 13
    # Subnormal: add 1/2. The last bit of the sum is 2**-24, as in a subnormal float16.
    tiny.bits = size
    tiny.value = tiny.value + <float> 0.5
    cdef uint32_t subnormal = tiny.bits - <uint32_t> 0x3F000000
    # NaN becomes a quiet NaN with the upper bits of the payload.
    cdef uint32_t nan = 0x7E00 | ((size >> 13) & 0x01FF)
    cdef uint32_t result = subnormal if size < 0x38800000 else normal
    result = 0x7C00 if size >= 0x477FF000 else result      # infinity for |x| >= 65520
    result = nan if size > 0x7F800000 else result
    return <uint16_t> (result | sign)


# ---------------------------------------------------------------------- bfloat16

cdef inline float from_bfloat(uint16_t bfloat) noexcept nogil:
    """The value of a bfloat16, whose bits are the upper half of a float."""
    cdef float_bits result
    result.bits = <uint32_t> bfloat << 16
    return result.value


cdef inline uint16_t to_bfloat(float x) noexcept nogil:
    """The bits of the bfloat16 nearest to x, ties to even."""
    cdef float_bits value
    value.value = x
    cdef uint32_t rounded = (value.bits + 0x7FFF + ((value.bits >> 16) & 1)) >> 16
    # NaN becomes a quiet NaN with the upper bits of the payload.
    cdef uint32_t nan = (value.bits >> 16) | 0x0040
    return <uint16_t> (rounded if x == x else nan)
