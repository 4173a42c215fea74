"""The table of operations: name, operands and documentation of every ufunc.

Their loops are in the kernel table (`_kernels/kernels.pxi`): a ufunc has the types
for which that has a row.
"""

from dataclasses import dataclass
from inspect import Parameter, Signature


@dataclass(frozen=True)
class Operation:
    """A public ufunc.

    Attributes
    ----------
    name : str
    operands : tuple of str
        Names of the inputs.
    doc : str
        The docstring, without the signature and the parameters common to all ufuncs.
    default : float, optional
        Value of the last operand when it is left out; it can also be given by name then.
    """

    name: str
    operands: tuple[str, ...]
    doc: str
    default: float | None = None

    @property
    def signature(self) -> Signature:
        """The call: operands by position, the last one also by name if it has a default."""
        kinds = Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY
        parameters = [Parameter(operand, kinds[0]) for operand in self.operands]
        if self.default is not None:
            parameters[-1] = Parameter(self.operands[-1], kinds[1], default=self.default)
        parameters.append(Parameter("out", kinds[1], default=None))
        for name, default in _UFUNC_KEYWORDS.items():
            parameters.append(Parameter(name, kinds[2], default=default))
        return Signature(parameters)


_UFUNC_KEYWORDS = {
    "where": True,
    "casting": "same_kind",
    "order": "K",
    "dtype": None,
    "subok": True,
    "signature": None,
}

_COMMON = """
    out : ndarray, or tuple of one ndarray, optional
        Where the result goes; any input may be given. Of the broadcast shape.
    where, casting, order, dtype, subok
        As for every `numpy.ufunc`.

    Returns
    -------
    ndarray or scalar
        {returns}

    Raises
    ------
    TypeError
        For a dtype other than those below (complex, object, string, ...), and for unknown
        keywords.
    ValueError
        If the shapes do not broadcast, or `out` is read-only or of a wrong shape.

    Notes
    -----
    {notes}
    No floating-point warning is ever set, but by casts that NumPy makes for `dtype` or
    `out`. The bits of a result depend on the input values alone."""

_FLOATS = (
    "float16, float32, float64, bfloat16 of ml_dtypes; integers are promoted as by\n"
    "    `numpy.exp`."
)


def _doc(summary: str, parameters: str, returns: str, notes: str) -> str:
    text = f"{summary}\n\n    Parameters\n    ----------\n    {parameters}"
    text += _COMMON.format(returns=returns, notes=notes)
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())


_X = "x : array_like\n        Input, of any shape."
_GRAD = "grad : array_like\n        Gradient of the loss with respect to the output of {}."
_SLOPE = (
    "negative_slope : array_like, default 0.01\n"
    "        Slope for x <= 0, by position or by name. Broadcasts: one slope per channel, say."
)
_GRADIENT = "Gradient of the loss with respect to the input of {}."

OPERATIONS = (
    Operation(
        "relu",
        ("x",),
        _doc(
            "max(0, x), element by element.",
            _X,
            "NaN for NaN, +0 for -0.0.",
            "Exact. Keeps float16, float32, float64, bfloat16 of ml_dtypes, and all integer types.",
        ),
    ),
    Operation(
        "leaky_relu",
        ("x", "negative_slope"),
        _doc(
            "x where x > 0, else negative_slope * x.",
            f"{_X}\n    {_SLOPE}",
            "NaN for NaN.",
            f"{_FLOATS} At most 0.5 ULP: one rounding.\n"
            "    Right for every slope: negative, 0, above 1; NaN and infinity follow IEEE 754.",
        ),
        default=0.01,
    ),
    Operation(
        "sigmoid",
        ("x",),
        _doc(
            "1 / (1 + exp(-x)), the logistic function.",
            _X,
            "In [0, 1] and monotone; 0.5 at 0, NaN for NaN.",
            f"{_FLOATS} At most 0.78 ULP in float32, over all inputs;\n"
            "    the tail is kept down to the smallest subnormal number (x near -103.97 in\n"
            "    float32, -745.1 in float64).",
        ),
    ),
    Operation(
        "relu_backward",
        ("grad", "x"),
        _doc(
            "grad where x > 0, else 0.",
            f"{_GRAD.format('relu')}\n    x : array_like\n        Input or output of relu.",
            _GRADIENT.format("relu") + " NaN where x is NaN.",
            f"Exact. {_FLOATS}",
        ),
    ),
    Operation(
        "leaky_relu_backward",
        ("grad", "x", "negative_slope"),
        _doc(
            "grad where x > 0, else negative_slope * grad.",
            f"{_GRAD.format('leaky_relu')}\n    x : array_like\n        Input of leaky_relu.\n"
            f"    {_SLOPE}",
            _GRADIENT.format("leaky_relu") + " NaN where x is NaN.",
            f"{_FLOATS} At most 0.5 ULP: one rounding.",
        ),
        default=0.01,
    ),
    Operation(
        "sigmoid_backward",
        ("grad", "x"),
        _doc(
            "grad * s(x) * s(-x), the gradient of sigmoid from its input.",
            f"{_GRAD.format('sigmoid')}\n    x : array_like\n        Input of sigmoid.",
            _GRADIENT.format("sigmoid") + " 0 for infinite x, NaN for NaN.",
            f"{_FLOATS} At most 1.5 ULP in float32,\n    in both tails.",
        ),
    ),
    Operation(
        "sigmoid_backward_from_output",
        ("grad", "y"),
        _doc(
            "grad * y * (1 - y), the gradient of sigmoid from its output.",
            f"{_GRAD.format('sigmoid')}\n    y : array_like\n        Output of sigmoid.",
            _GRADIENT.format("sigmoid") + " NaN for NaN.",
            f"{_FLOATS} Cheaper than `sigmoid_backward`, and at\n"
            "    most 1.5 ULP from the exact value for this y. But y has lost what x was where it\n"
            "    is near 1: in float32 the result is off by thousands of ULP for x in [5, 10]\n"
            "    and 0 from x = 17 on.",
        ),
    ),
)
