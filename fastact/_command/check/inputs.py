"""What `fastact check` tries: every number of a type, or samples with hard inputs among them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact._command.errors import float_info
from fastact._command.samples import sample

Array = NDArray[Any]

# How many inputs a sample has. For 16-bit types: how often all inputs are tried, each time with
# other gradients.
EVEN_INPUTS = 1 << 24
HARD_INPUTS = 1 << 20
NARROW_ROUNDS = 16
NAN_INPUTS = 1 << 12
SLOW_INPUTS = SLOW_HARD_INPUTS = 1 << 15


@dataclass(frozen=True)
class Inputs:
    """Values of the operand that is gone through, `x` or `y`, in order."""

    size: int
    # ``part(start, stop)`` makes those from `start` to `stop`, but none beyond `size`.
    part: Callable[[int, int], Array]
    # How many are tried with random gradients. Each of the others is there once for every gradient.
    random: int | None = None


def choose(
    dtype: np.dtype[Any], exhaustive: bool, sampled: bool, near_zeros: Array | None = None
) -> Inputs:
    """Choose the inputs of a type. A 16-bit type tries all gradients `near_zeros`."""
    if dtype.itemsize == 2:
        rounds = patterns(dtype, (NARROW_ROUNDS if sampled else 1) << 16)
        return rounds if near_zeros is None else with_every_gradient(rounds, near_zeros)
    if dtype.itemsize == 4 and exhaustive:
        return patterns(dtype, 1 << 28, 17) if sampled else patterns(dtype, 1 << 32)
    if dtype.itemsize == 4:
        count, hard = EVEN_INPUTS, HARD_INPUTS
    else:
        count, hard = SLOW_INPUTS, SLOW_HARD_INPUTS
    values = _sample(dtype, count, hard)
    return Inputs(len(values), lambda start, stop: values[start:stop])


def patterns(dtype: np.dtype[Any], size: int, step: int = 1) -> Inputs:
    """Make the numbers of a type, NaN and infinities too, in the order of their bits.

    After the last number comes the first one again, if `size` is large enough.
    """

    def part(start: int, stop: int) -> Array:
        bits = np.arange(start, min(stop, size), dtype=np.uint64) * np.uint64(step)
        return bits.astype(f"u{dtype.itemsize}").view(dtype)

    return Inputs(size, part)


def with_every_gradient(first: Inputs, values: Array) -> Inputs:
    """Add some numbers of a 16-bit type, each as often as there are gradients."""
    size = first.size + (len(values) << 16)

    def part(start: int, stop: int) -> Array:
        positions = np.arange(max(start, first.size), min(stop, size)) - first.size
        return np.concatenate([first.part(start, stop), values[positions >> 16]])

    return Inputs(size, part, first.size)


def nans(dtype: np.dtype[Any], count: int) -> Array:
    """Make NaNs with random payloads, of which a random number of bits at the end are all set.

    A shift turns such bits into the exponent of infinity.
    """
    info = np.finfo(dtype)
    kind = np.dtype(f"u{dtype.itemsize}")
    rng = np.random.Generator(np.random.SFC64(count))
    bits = rng.integers(0, np.iinfo(kind).max, count, kind, endpoint=True)
    bits |= np.array(np.inf, dtype).view(kind)
    bits |= (kind.type(1) << rng.integers(1, info.nmant, count).astype(kind)) - kind.type(1)
    return bits.view(dtype)


def _make_sample(dtype: np.dtype[Any], count: int, hard: int) -> Array:
    """Make NaNs, infinities, about `hard` hard inputs, and a `sample` of `count`."""
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
    return np.concatenate(
        [special, nans(dtype, NAN_INPUTS), _hard(dtype, hard), sample(dtype, count)]
    )


# Not as a decorator: stubtest would compare the two signatures.
_sample = functools.cache(_make_sample)


def _hard(dtype: np.dtype[Any], count: int) -> Array:
    """Make about `count` inputs where a formula changes, or where its error is near the greatest.

    There are runs of neighbours around 0; around the ends of the type; around integers, such as
    clamps are; around the ends of every binade of exp(x), and around the middles between them,
    where an argument reduction goes from one k to the next.

    There are evenly spaced inputs of both signs where results are subnormal, where they approach
    1, where they vanish for gradients of any size, and where 1/2 + x/4 is a result.
    """
    info = np.finfo(dtype)
    kind = np.dtype(f"u{dtype.itemsize}")
    lowest = info.nmant - info.minexp  # the smallest subnormal is 2**-lowest
    binades = np.arange(0, lowest + info.maxexp + 2, 0.5) * np.log(2)
    integers = np.arange(1, binades[-1])
    powers = np.ldexp(1.0, np.arange(-info.nmant - 10, 5))
    ends = [0.0, info.smallest_subnormal, info.smallest_normal, info.max]
    anchors = np.concatenate([ends, powers, 1 - powers, integers, binades]).astype(dtype).view(kind)
    anchors = anchors[:: max(1, 4 * len(anchors) // count)]
    width = max(1, count // (4 * len(anchors)))
    runs = anchors[:, None] + np.arange(-(width // 2), width - width // 2).astype(kind)

    logs = np.log(2) * np.array([-info.minexp, lowest + 1, info.nmant, info.nmant + 2])
    vanish = np.log(2) * (lowest + 1 + info.maxexp)
    spans = [(logs[0], logs[1]), (logs[2], logs[3]), (vanish - 4, vanish + 1), (powers[0], 1)]
    spaced = []
    for span in spans:
        first, last = map(int, np.array(span, dtype).view(kind))
        step = max(1, (last - first) * 16 // count)
        spaced.append(np.arange(first, last, step, dtype=np.uint64).astype(kind))
    positive = np.concatenate([runs.ravel(), *spaced]).view(dtype)
    positive = np.sort(np.abs(positive[np.isfinite(positive)]))
    return np.concatenate([positive, -positive])


def random_numbers(dtype: np.dtype[Any], count: int, seed: tuple[int, ...]) -> Array:
    """Make finite numbers of which every bit is random, and so of all magnitudes.

    One in eight is near the largest number. One in eight is near the smallest, or subnormal.
    """
    info = float_info(dtype)
    kind = np.dtype(f"u{dtype.itemsize}")
    rng = np.random.Generator(np.random.SFC64(seed))
    bits = rng.integers(0, np.iinfo(kind).max, count, kind, endpoint=True)
    # All bits of the exponent except the last two.
    exponent = kind.type((info.maxexp - 2) << (info.nmant + 1))
    bits[::8] |= exponent
    bits[1::8] &= ~exponent
    values = bits.view(dtype)
    with np.errstate(invalid="ignore"):
        values[~np.isfinite(values)] = info.max
    return values
