"""The coefficients of the exponential in `fastact/activations.pxd`.

``python tests/minimax.py`` prints them, and the error of the polynomial.
"""

import mpmath
import numpy as np

# A little more than |r| <= ln 2 / 2, for the rounding of the quotient.
LIMIT_FACTOR = "1.0001"
# "narrow": for float16 and bfloat16, computed in float32.
DEGREES = {"float32": 4, "float64": 9, "narrow": 3}
GRID = 401
DIGITS = 60


def relative_error(coefficients, r):
    """Relative error of 1 - r + r**2 P(r) against exp(-r)."""
    # Not mpmath.polyval, whose order of coefficients changes with mpmath 1.4.
    value = 1 - r + sum(c * r ** (2 + i) for i, c in enumerate(coefficients))
    return value * mpmath.exp(r) - 1


def levelled(points, degree):
    """P whose relative error has one size and alternating signs at `points`.

    Parameters
    ----------
    points : list of mpf
        degree + 2 of them, ascending.
    degree : int

    Returns
    -------
    list of mpf
        The coefficients, lowest first.
    """
    n = degree + 2
    matrix, right = mpmath.matrix(n, n), mpmath.matrix(n, 1)
    for i, r in enumerate(points):
        for j in range(degree + 1):
            matrix[i, j] = r ** (2 + j)
        matrix[i, degree + 1] = (-1) ** i * mpmath.exp(-r)
        right[i] = mpmath.exp(-r) - 1 + r
    return list(mpmath.lu_solve(matrix, right))[:-1]


def summit(coefficients, left, right):
    """Where between `left` and `right` the error is greatest, by trisection."""
    for _ in range(120):
        third = (right - left) / 3
        a, b = left + third, right - third
        if abs(relative_error(coefficients, a)) < abs(relative_error(coefficients, b)):
            left = a
        else:
            right = b
    return (left + right) / 2


def summits(coefficients, limit, count):
    """The greatest error of each sign in turn; one sign change of the error parts two.

    Parameters
    ----------
    coefficients : list of mpf
    limit : mpf
        The polynomial is meant for |r| <= limit.
    count : int
        How many summits there should be; ValueError if there are not.

    Returns
    -------
    list of mpf
        Ascending; the ends of the interval are summits too.
    """
    grid = [-limit * mpmath.cos(mpmath.pi * i / GRID) for i in range(GRID + 1)]
    errors = [relative_error(coefficients, r) for r in grid]
    # An odd number of steps leaves r = 0 out, where the error is 0 whatever P is.
    runs = [[0]]
    for i in range(1, GRID + 1):
        if errors[i] * errors[runs[-1][-1]] < 0:
            runs.append([i])
        else:
            runs[-1].append(i)
    if len(runs) != count:
        raise ValueError(f"{len(runs)} summits of the error, wanted {count}")
    found = []
    for run in runs:
        best = max(run, key=lambda i: abs(errors[i]))
        around = max(best - 1, 0), min(best + 1, GRID)
        found.append(summit(coefficients, *(grid[i] for i in around)))
    return found


def minimax(degree):
    """P of least greatest relative error, by Remez's exchange.

    Parameters
    ----------
    degree : int

    Returns
    -------
    coefficients : list of mpf
        Lowest first.
    error : mpf
        The greatest relative error of 1 - r + r**2 P(r) against exp(-r).
    """
    with mpmath.workdps(DIGITS):
        limit = mpmath.mpf(LIMIT_FACTOR) * mpmath.log(2) / 2
        n = degree + 2
        points = [-limit * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
        for _ in range(50):
            coefficients = levelled(points, degree)
            before, points = points, summits(coefficients, limit, n)
            if (
                max(abs(a - b) for a, b in zip(before, points, strict=True))
                < limit * mpmath.mpf(10) ** -20
            ):
                break
        return coefficients, max(abs(relative_error(coefficients, r)) for r in points)


def rounded(name):
    """The coefficients, lowest first, as numbers of the type that is computed in."""
    coefficients, _ = minimax(DEGREES[name])
    number = np.float64 if name == "float64" else np.float32
    return [number(mpmath.nstr(c, 30)) for c in coefficients]


if __name__ == "__main__":
    for name, number in DEGREES.items():
        _, greatest = minimax(number)
        print(f"{name}: degree {number}, error 2**{mpmath.nstr(mpmath.log(greatest, 2), 4)}")
        for power, coefficient in enumerate(rounded(name)):
            print(f"    r**{power}: {float(coefficient)!r}")
