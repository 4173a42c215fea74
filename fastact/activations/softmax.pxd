"""softmax, its logarithm, and their gradients: what there is to compute for a row and its elements.

Method: each exponential from its own k, without rounding x - max(x); sums in double, or with their errors.
Error: float32 1.98 ULP, logarithm 1.88; float64 1.63, 1.61; gradients 1.88, 2.41 (all sampled).
Range: [0, 1], and [-inf, 0]; a row with NaN or inf, or with nothing but -inf, becomes NaN.

With m the largest element of a row and S = sum(exp(x - m)),

    softmax(x) = exp(x - m) / S,    log_softmax(x) = (x - m) - log(S).

m is not subtracted from the elements, because the rounding error of a difference such as -80 would
change its exponential by many ULP. Each element is reduced by itself, x = k ln 2 - (r + low), and the
K of m is subtracted from its k: the terms are 2**(k - K) exp(-(r + low)). Where m is so large
that k may not fit in the last bits of `base`, m is subtracted from all elements first. The
difference is exact there for every element that does not come out as 0.

The terms have a scale of 2**64 (2**512 in double), so that none is subnormal. The sum has it, too, so
that a division by the sum removes it. Terms of float are added up in double, terms of double with
their rounding errors.
"""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastact.activations.arithmetic cimport absolute, double_bits, float_bits, fma, fma_of_any, real
from fastact.activations.exponential cimport power_of_two, quotient, reduce_argument, rounding
from fastact.activations.softplus cimport bend_of_logarithm


cdef inline int32_t rank_of_float(float x) noexcept nogil:
    """An integer that is greater for a greater x. NaN is beyond the infinities.

    The largest integer is found faster: the compiler may change the order of comparisons.
    """
    cdef float_bits value
    value.value = x
    cdef int32_t bits = <int32_t> value.bits
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


cdef inline float float_of_rank(int32_t rank) noexcept nogil:
    cdef float_bits value
    value.bits = <uint32_t> (rank ^ ((rank >> 31) & 0x7FFFFFFF))
    return value.value


cdef inline int64_t rank_of_double(double x) noexcept nogil:
    cdef double_bits value
    value.value = x
    cdef int64_t bits = <int64_t> value.bits
    return bits ^ ((bits >> 63) & <int64_t> (~<uint64_t> 0 >> 1))


cdef inline double double_of_rank(int64_t rank) noexcept nogil:
    cdef double_bits value
    value.bits = <uint64_t> (rank ^ ((rank >> 63) & <int64_t> (~<uint64_t> 0 >> 1)))
    return value.value


cdef inline real span(real kind) noexcept nogil:
    """A distance from the largest element at which a term is 0 after the scale is removed."""
    return 128 if real is float else 800


cdef inline real pivot_of(real top) noexcept nogil:
    """What is subtracted from all elements, given the largest one."""
    cdef real near = 256 if real is float else 2048
    return <real> 0 if absolute(top) <= near else top


cdef inline real limit_of(real top, real pivot) noexcept nogil:
    """The greatest difference of the pivot and an element that is looked at."""
    return (pivot - top) + span(top)


cdef inline real base_of(real top, real pivot) noexcept nogil:
    """A `round_at` less K: the terms of the largest elements are about 1, times 2**64 (2**512)."""
    cdef real base = rounding(64 if real is float else 512, top)
    return base - (quotient(pivot - top, base) - base)


cdef inline real term(real x, real pivot, real limit, real base) noexcept nogil:
    """exp(x - m), up to a factor that is the same for all elements of a row."""
    cdef real t, rounded, r, scale, bend
    t = pivot - x
    t = limit if t > limit else t                              # NaN remains NaN
    rounded = quotient(t, base)
    r = reduce_argument(t, rounded - base, &bend)
    scale = power_of_two(rounded)
    return fma(scale, bend - r, scale)


cdef inline real first_term(real top, real pivot, real base, real *lost) noexcept nogil:
    """`term` of the largest element, and what its rounding has cut off. It needs no limit."""
    cdef real t, rounded, r, scale, bend, result
    t = pivot - top
    rounded = quotient(t, base)
    r = reduce_argument(t, rounded - base, &bend)
    scale = power_of_two(rounded)
    result = fma(scale, bend - r, scale)
    lost[0] = fma(scale, bend, fma(-scale, r, scale - result))
    return result


cdef inline double sum_error(double a, double b, double total) noexcept nogil:
    """a + b - total, exactly (Knuth's TwoSum)."""
    cdef double part = total - a
    return (a - (total - part)) + (b - part)


cdef inline real leading(double high, double low, real *rest) noexcept nogil:
    """high + low as a number of the type of the elements, and the rest of it; 0 for an infinity."""
    cdef real lead
    if real is float:
        lead = <float> high
        rest[0] = <float> ((high - lead) + low)
    else:
        lead = high
        rest[0] = low
    rest[0] = rest[0] if lead - lead == 0 else <real> 0
    return lead


@cython.cdivision(True)
cdef inline double inverse(double total, double lost, double *low) noexcept nogil:
    """1 / (total + lost), as the sum of two numbers."""
    cdef double result = 1 / total
    low[0] = result * (fma(-result, total, <double> 1) - result * lost)
    return result


cdef inline real scaled(real e, real high, real low, real first, real low_of_first) noexcept nogil:
    """An element of softmax, from its term and the inverse of the sum.

    The rounding of the term of the largest element has been added to the sum, so that it does not
    change all other elements. `low_of_first` adds it to the largest elements, too: a probability of 1
    is 1.
    """
    return fma_of_any(e, high, e * (low_of_first if e >= first else low))


@cython.cdivision(True)
cdef inline double logarithm(
    double top, double others, double others_low, double first, double first_low, double *rest
) noexcept nogil:
    """top + log(1 + others / first), as the sum of two numbers, as `others` and `first` are.

    `first` is the term of the largest element, and `others` the sum of all other terms. The logarithm is
    that of `softplus`: others / first is not added to 1 where it is small.
    """
    cdef double w, w_low, s, k, d, low, more, lead, high, total, one = 1
    cdef double_bits exponent, power, whole
    # The errors of a long sum are more than the last bit of it. `low` has to be small: see below.
    total = others + others_low
    others_low += others - total
    others = total
    w = others / first
    w_low = (fma(-w, first, others) - w * first_low + others_low) / first
    # 1 + w = 2**k (1 + d) with 1 + d in [3/4, 3/2).
    s = one + w
    low = sum_error(one, w, s) + w_low
    exponent.value = s
    exponent.bits = ((exponent.bits + (<uint64_t> 1 << 51)) >> 52) - 1023
    power.bits = (1023 - exponent.bits) << 52
    whole.bits = <uint64_t> 0x4338000000000000 + exponent.bits      # 1.5 * 2**52 + k
    k = whole.value - 6755399441055744.0
    d = s * power.value - one
    low *= power.value
    k = 0 if w <= 0.5 else k
    d = w if w <= 0.5 else d
    low = w_low if w <= 0.5 else low
    lead = k * 0.693147180559890330187045037746429443359375    # exact: log(2) in 42 bits
    # low / (1 + d), to the square of d: low is less than 2**-51.
    low = fma(low, fma(d, d, -d), low)
    more = sum_error(lead, d, lead + d) + fma(k, 5.497923018708371155e-14, low)
    more = fma(d * d, bend_of_logarithm(d), more)
    lead += d
    # `more` may be an eighth of `lead`. With what it adds to the first number, the difference of that
    # and the largest element is exact, unless it is large compared with the second number.
    high = top + lead
    more += sum_error(top, lead, high)
    total = high + more
    rest[0] = sum_error(high, more, total)
    return total


cdef inline real shifted(real x, real high, real low) noexcept nogil:
    """An element of log_softmax, from the result of `logarithm`."""
    return (x - high) - low


cdef inline real slope_of_softmax(real grad, real y, real high, real low) noexcept nogil:
    """An element of the gradient of softmax, from its output; high + low is sum(grad * y)."""
    return fma_of_any(y, grad - high, -(y * low))


cdef inline real any_slope_of_softmax(
    real grad, real y, real part, real whole, real high, real low
) noexcept nogil:
    """The same where grad - high may be out of range: all but y times `part`, and y times 1 / part."""
    y *= whole
    return fma_of_any(y, grad * part - high, -(y * low))


cdef inline bint is_moderate(double total, real kind) noexcept nogil:
    """Whether no gradient, less a sum of this size, is out of range; False for NaN."""
    cdef double most = 1e30 if real is float else 1e291
    return absolute(total) < most


cdef inline int32_t exponent_of(double x) noexcept nogil:
    """e of 2**e <= |x| < 2**(e + 1); 1024 of infinities and NaN, -1023 of 0 and subnormal numbers."""
    cdef double_bits value
    value.value = x
    return <int32_t> ((value.bits >> 52) & 0x7FF) - 1023


cdef inline double whole_power(int32_t e) noexcept nogil:
    """2**e, for -1022 <= e <= 1023."""
    cdef double_bits value
    value.bits = <uint64_t> (1023 + e) << 52
    return value.value


# In the gradient of log_softmax, exp(y) is computed times 2**b, and the sum of the gradients is divided
# by it. With b = e + MARGIN, e being the exponent of the sum, the exponential is too small for its type only
# where the product is too small to change any result: it is 0 there. It is not too large where y <= 0
# and e <= 127 - 1 - MARGIN (1022 - MARGIN in double).

cdef inline int32_t margin(real kind) noexcept nogil:
    """The digits of the type and 2."""
    return 26 if real is float else 55


cdef inline int32_t greatest_exponent(real kind) noexcept nogil:
    """The greatest exponent of a sum of gradients for which `slope_of_log_softmax` is meant."""
    return (126 if real is float else 1022) - margin(kind)


cdef inline real scaled_limit(int32_t b, real kind) noexcept nogil:
    """The -y from which on exp(y) 2**b is 0: there, the bits of the power are those of 0."""
    return <real> ((127 if real is float else 1023) + b) * <real> 0.693147180559945309


cdef inline real slope_of_log_softmax(
    real grad, real y, real limit, real base, real high, real low
) noexcept nogil:
    """An element of the gradient of log_softmax, from its output; high + low is sum(grad) / 2**b."""
    cdef real e = term(y, <real> 0, limit, base)
    # The sums are negated, not e: a compiler may put the sign of -e into the fma that makes e, where it
    # would change that of 0.
    return fma_of_any(e, -high, fma_of_any(e, -low, grad))


cdef inline int32_t near_by(real kind) noexcept nogil:
    """b - e, less than 0, for products that are not small: see `any_slope_of_log_softmax`."""
    return -60 if real is float else -500


cdef inline real greatest_y(int32_t b, real kind) noexcept nogil:
    """A y for which the product with the sum is infinite, but not that with what is lost of the sum."""
    return <real> ((75 if real is float else 550) - b) * <real> 0.693147180559945309


cdef inline real any_slope_of_log_softmax(
    real grad, real y, real limit, real base, real high, real low,
    real split, real most, real near_base, real near_high, real near_low
) noexcept nogil:
    """`slope_of_log_softmax` for every sum and every y, with the same bits where both can be used.

    No scale fits products of all sizes. Those that are 1 or more, where -y <= split, have another one.
    """
    cdef real e, zero = 0
    cdef bint near = -y <= split
    high, low = near_high if near else high, near_low if near else low
    e = term(most if y > most else y, zero, limit, near_base if near else base)
    e = zero if y == -INFINITY else e
    e = y * zero if y == INFINITY and high + low == 0 else e
    return fma_of_any(e, -high, fma_of_any(e, -low, grad))


cdef inline real smaller(real e, real skipped) noexcept nogil:
    """A term, or 0 if it is not less than `skipped`; NaN remains NaN."""
    return <real> 0 if e >= skipped else e
