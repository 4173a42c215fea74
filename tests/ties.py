"""The coefficients of the formulas for 16-bit types in `gelu.pxd` and `gelu_tanh.pxd`, by trial.

The formulas compute in float with an error of some 2**-21 of the result. Some results are closer
to the middle of two adjacent numbers of the type, and come out on the wrong side of it. As there
are only 65,536 inputs, ``python tests/ties.py NAME`` moves the coefficients of the best
polynomials, which `minimax.py` gives, by some ULP at random, until no input is wrong, and prints
them.
"""

import sys

import minimax
import ml_dtypes
import numpy as np
from reference import BY_NAME, bits

TYPES = np.dtype("float16"), np.dtype(ml_dtypes.bfloat16)
# What the formulas do without arithmetic.
TINY = 2.0**-26


def fma(a, b, c):
    """A * b + c of floats, rounded once: the sum of doubles is rounded to odd."""
    product, c = np.float64(a) * np.float64(b), np.float64(c)
    total = product + c
    part = total - product
    lost = (product - (total - part)) + (c - part)
    odd = total.view(np.int64)
    inexact = (lost != 0).astype(np.int64)
    away = (np.signbit(lost) != np.signbit(total)).astype(np.int64)
    return ((odd - (inexact & away)) | inexact).view(np.float64).astype(np.float32)


def horner(x, coefficients):
    """The polynomial with these coefficients, lowest first."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, coefficient)
    return total


def rounded_quotient(product, factor, add):
    """The sum with the rounding constant, and the rest that fma leaves of the product."""
    bias = np.float32(12582912 + 127 + 32)
    rounded = fma(*product, bias)
    scale = (rounded.view(np.uint32) << 23).view(np.float32)
    return scale, fma(rounded - bias, np.float32(factor), add)


def shifted(x):
    """max(x, 0), and a little more where x > 0, which moves x = 2**-24 from a tie."""
    return np.where(x > 0, x + np.float32(2.0**-47), np.float32(0))


def gelu(x, coefficients):
    """What `gelu_narrow` computes."""
    exponential, above, below = np.split(coefficients, [6, 10])
    t = np.minimum(np.abs(x), np.float32(14.84))
    square = t * t
    scale, r = rounded_quotient((square, -0.5 / np.log(np.float32(2))), 2 * np.log(2), square)
    q = horner(t, [*below, np.float32(1)])
    w = horner(t, above) * horner(r, exponential) / q
    return fma(-(t * scale), w, shifted(x))


def gelu_tanh(x, coefficients):
    """What `gelu_tanh_narrow` computes."""
    t = np.minimum(np.abs(x), np.float32(10.92))
    first, third = coefficients[6:]
    u = fma(t * t, third, first)
    bias = np.float32(12582912 + 127 + 32)
    rounded = fma(t, -u, bias)
    scale = (rounded.view(np.uint32) << 23).view(np.float32)
    e = horner(fma(t, u, rounded - bias), coefficients[:6])
    w = e / fma(e, scale, np.float32(1))
    return fma(-(t * scale), w, shifted(x))


FORMULAS = {
    "gelu": (gelu, ["gelu narrow exponential", "gelu narrow"]),
    "gelu_tanh": (gelu_tanh, ["gelu_tanh narrow exponential"]),
}


def start(name):
    """The coefficients of the best polynomials, rounded."""
    exact = [
        (minimax.FITS[fit], minimax.exact_coefficients(minimax.record()[fit]))
        for fit in FORMULAS[name][1]
    ]
    parts = [minimax.rounded(*pair)[0] for pair in exact]
    if name == "gelu_tanh":
        factor = 2 * np.sqrt(2 / np.pi) / np.log(2)
        parts.append([factor, 0.044715 * factor])
    return np.concatenate(parts).astype(np.float32)


def wanted(name, dtype):
    """All finite numbers of a type that take arithmetic, as floats, and the exact results."""
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
    x = x[np.isfinite(x) & (np.abs(x) >= TINY)]
    with np.errstate(over="ignore"):
        exact = [BY_NAME[name].exact(np, value) for value in x.astype(np.float64).tolist()]
    return x, np.array(exact)


def ties(name):
    """Inputs of both types with results near the middle of two numbers; what `excess` takes."""
    parts = []
    for dtype in TYPES:
        x, exact = wanted(name, dtype)
        with np.errstate(all="ignore"):
            near = [(exact * (1 + sign * 2.0**-19)).astype(dtype) for sign in (-1, 1)]
        chosen = bits(near[0]) != bits(near[1])
        low, high = (side[chosen] for side in near)
        middle = (low.astype(np.float64) + high.astype(np.float64)) / 2
        side = np.sign(np.abs(exact[chosen]) - np.abs(middle))
        # A tie is rounded to the even one of both.
        right = np.where(side > 0, bits(high) % 2, bits(low) % 2) == 0
        parts.append((x[chosen], np.abs(middle), side, right))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def excess(results, middle, side, right):
    """How far each result is on the wrong side, in 2**-24 of it, and 1; else 0."""
    with np.errstate(all="ignore"):
        distance = (np.abs(results) - middle) * side / middle * 2.0**24
    return np.where((distance > 0) | ((distance == 0) & right), 0, 1 - distance)


def search(name, seed=1):
    """Coefficients for which no input of both types is wrong, and the number of trials."""
    formula = FORMULAS[name][0]
    x, *rest = ties(name)
    rng = np.random.default_rng(seed)
    best = start(name)
    least = excess(formula(x, best), *rest).sum()
    trials = 0
    while least:
        trials += 1
        steps = np.rint(rng.normal(0, rng.choice([1, 4, 16]), best.size)).astype(np.int32)
        steps[rng.random(best.size) < rng.random()] = 0
        moved = (best.view(np.int32) + steps).view(np.float32)
        total = excess(formula(x, moved), *rest).sum()
        if total <= least:
            best, least = moved, total
    return best, trials


def main():
    """Print the coefficients of the formulas named, or of all."""
    for name in sys.argv[1:] or FORMULAS:
        best, trials = search(name)
        print(f"{name}: {trials} trials")
        for number, first in zip(best.tolist(), start(name), strict=True):
            print(f"    {number!r}: moved by {(number - first) / np.spacing(first):.0f} ULP")


if __name__ == "__main__":
    main()
