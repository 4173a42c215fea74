"""softplus, log(1 + exp(x)), and its gradient, grad * sigmoid(x).

Method: max(x, 0) + log(1 + exp(-|x|)), added up in two parts; the gradient by the division of `sigmoid`.
Error: float32 0.98 ULP (all inputs), gradient 1.72; float64 0.98, 1.50 (sampled); 16 bits correctly rounded.
Range: [0, inf], monotone; -inf gives +0, inf gives inf, NaN gives NaN.
"""

cimport cython

from fastact.activations.arithmetic cimport absolute, fma, real, to_odd_float
from fastact.activations.exponential cimport (
    at_most, clip, half_range, one_plus, power_of_two, power_ratio, quotient,
    reduce_argument, reduced, rounding, tiny_of,
)


cdef inline real bend_of_logarithm(real d) noexcept nogil:
    """P(d) of log(1 + d) = d + d**2 P(d) for -1/4 <= d <= 1/2.

    P is the minimax polynomial for the error relative to d, which is 2**-27.7 in float and 2**-56.8 in
    double (`tests/minimax.py`). Its first coefficient is added last, because it is the largest.
    """
    cdef real d2, d4, d8, first, p01, p03, p05, p07, p09, p11, p13, p15, p17
    d2 = d * d
    d4 = d2 * d2
    if real is float:
        first = <float> -0.5
        p01 = fma(d, <float> -0.25000232458114624, <float> 0.3333345353603363)
        p03 = fma(d, <float> -0.16642867028713226, <float> 0.19990962743759155)
        p05 = fma(d, <float> -0.13193881511688232, <float> 0.14468106627464294)
        p07 = fma(d, <float> -0.04619816690683365, <float> 0.10592592507600784)
        p01 = fma(d2, p03, p01)
        p05 = fma(d2, p07, p05)
        p01 = fma(d4, p05, p01)
    else:
        d8 = d4 * d4
        first = -0.49999999999999967
        p01 = fma(d, -0.2500000000002186, 0.33333333333333826)
        p03 = fma(d, -0.16666666662476556, 0.19999999999858625)
        p05 = fma(d, -0.1250000036056287, 0.14285714296285928)
        p07 = fma(d, -0.09999983864390197, 0.111111110889805)
        p09 = fma(d, -0.08333713774066683, 0.0909088101379434)
        p11 = fma(d, -0.071389169937701, 0.07693606295821566)
        p13 = fma(d, -0.062437841595246374, 0.06641759097281923)
        p15 = fma(d, -0.05993537182754197, 0.060809395184449735)
        p17 = fma(d, -0.02994274710015137, 0.051286039170136646)
        p17 = fma(d2, 0.008290246551039453, p17)
        p01 = fma(d2, p03, p01)
        p05 = fma(d2, p07, p05)
        p09 = fma(d2, p11, p09)
        p13 = fma(d2, p15, p13)
        p01 = fma(d4, p05, p01)
        p09 = fma(d4, p13, p09)
        p09 = fma(d8, p17, p09)
        p01 = fma(d8, p09, p01)
    return fma(d, p01, first)


cdef inline real softplus_sum(real x, real *rest) noexcept nogil:
    """2**S (max(x, 0) + log(1 + u)) with u = exp(-|x|), as a rounded number and the rest of it.

    The logarithm is log(1 + d) with d = u for u <= 1/2, and log(2) + log(1 + d) with d = (u - 1) / 2
    above. In both cases it is d + d**2 P(d) or the sum of this and log(2), and d**2 P(d) is less than a
    quarter of the result. d = high + low, where high is rounded and low is the rounding error of u, as
    `whole` and `rest` in `sigmoid`. The sum of max(x, 0), log(2) and high is split into its rounded value
    and the rounding errors (Dekker's FastTwoSum), and the small terms are added to these.

    As in `sigmoid`, everything is scaled by 2**S, except for the argument of P. u may be subnormal.
    """
    cdef real least, highest, lift, log2, log2_low, round_at
    cdef real clipped, rounded, r, bend, scale, high, low, d, more, positive, whole, back
    cdef real size = absolute(x) + tiny_of(x)
    cdef bint near
    if real is float:
        least = <float> 2.9802322387695312e-08                 # 2**-25, which is 2**-100 2**75
        highest = 105
        lift = <float> 3.777893186295716e+22                   # 2**75
        log2 = <float> 2.6186360177330844e+22                  # log(2) 2**75
        log2_low = <float> -71955801702400.0
        round_at = rounding(75, x)
    else:
        least = 5.599361855444511e+101                         # 2**338, which is 2**-200 2**538
        highest = 746
        lift = 8.997827589086393e+161                          # 2**538
        log2 = 6.236818824539723e+161                          # log(2) 2**538
        log2_low = 2.086638340200913e+145
        round_at = rounding(538, x)
    clipped = highest if size > highest else size
    rounded = quotient(clipped, round_at)
    r = reduce_argument(clipped, rounded - round_at, &bend)
    scale = power_of_two(rounded)
    high = fma(scale, bend - r, scale)
    low = fma(scale, bend, fma(-scale, r, scale - high))
    # P is of no account where u is less than 2**-60 (2**-120), and u may be subnormal there.
    d = (high + least) * half_range(x)
    # u - 1 is exact.
    near = d > <real> 0.5
    d = fma(d, <real> 0.5, <real> -0.5) if near else d
    low = low * <real> 0.5 if near else low
    high = d * lift if near else high
    more = fma(d * high, bend_of_logarithm(d), fma(-low, d, low))
    positive = clipped * lift if x > 0 else <real> 0
    log2 = log2 if near else <real> 0
    more += log2_low if near else <real> 0
    back = log2 + positive
    more += positive - (back - log2)
    whole = back + high
    more += high - (whole - back)
    rest[0] = more
    return whole


cdef inline real softplus(real x) noexcept nogil:
    """log(1 + exp(x)), including subnormal results: see `softplus_sum`.

    Only the last sum rounds much, and only the last product can be subnormal. The result rounds to x
    above `highest`, and to 0 below `lowest`.
    """
    cdef real lowest = -105 if real is float else -746, highest = 25 if real is float else 40
    cdef real rest, whole = softplus_sum(x, &rest)
    whole = (whole + rest) * half_range(x)
    whole = <real> 0 if x < lowest else whole
    # NaN takes the last branch, which preserves its bits.
    return whole if x <= highest else x


@cython.cdivision(True)
cdef inline real softplus_backward(real grad, real x) noexcept nogil:
    """grad * s(x) = grad / (1 + exp(-x)), with s = sigmoid.

    exp(-x) is at most about 2**127 (2**1023) in the denominator, which is rounded once, as in `sigmoid`.
    What there is above this in 2**k is multiplied into `grad`, so that the result rounds once, too.

    An infinite `grad` gives an infinite result, except where that factor is zero, below about x = -192
    (-1454). There it gives NaN, like infinity times zero.
    """
    cdef real lowest, highest, round_at, moved, rounded, most, whole
    if real is float:
        lowest, highest = -215, 25
        most = rounding(127, x)
    else:
        lowest, highest = -1500, 40
        most = rounding(1023, x)
    round_at = rounding(0, x)
    moved = clip(x, lowest, highest) + tiny_of(x)
    rounded = quotient(moved, round_at)
    most = at_most(rounded, most)
    whole = one_plus(reduced(moved, rounded - round_at), power_of_two(most), <real> 1)
    grad = grad * power_ratio(most, rounded) / whole
    return grad if x == x else x


# The functions for float16 and bfloat16 are correctly rounded (the gradient for grad = 1). The
# tests check all 65,536 inputs of both types.

cdef inline float softplus_narrow(float x) noexcept nogil:
    """softplus of a number of a narrower type; the caller rounds the result to that type.

    The sum is rounded to odd, because softplus(-6.39e-05) is closer to a tie of float16 than a float
    can tell.
    """
    cdef float rest, whole = softplus_sum(x, &rest)
    whole = <float> to_odd_float(<double> whole + <double> rest) * half_range(x)
    whole = <float> 0 if x < -105 else whole
    return whole if x <= 25 else x


cdef inline float softplus_backward_narrow(float grad, float x) noexcept nogil:
    """softplus_backward for a narrower type; the caller rounds the result to that type.

    For small x, 1/2 + x/4 is often a tie: see `sigmoid_narrow`.
    """
    cdef float near = grad * fma(x, <float> 0.24993896484375, <float> 0.5)
    cdef float y = softplus_backward(grad, x)
    return near if absolute(x) < <float> 0.0625 else y
