"""The table of operations: name, operands and documentation of every ufunc.

Their loops are in the kernel table (`kernels/kernels.pxi`): a ufunc has the types
for which that has a row.
"""

from dataclasses import dataclass
from inspect import Parameter, Signature
from textwrap import fill


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
    integers: bool = False
    narrow: str = "float32"

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
where, casting, order, dtype, subok, signature
    As for every `numpy.ufunc`.

Returns
-------
ndarray, or scalar if all operands are scalars
    {returns}

Raises
------
TypeError
    For an operand of another dtype than those below (complex, object, string, ...), and for
    unknown keywords.
ValueError
    If the shapes do not broadcast, or `out` is read-only or of a wrong shape.

See Also
--------
{see}

Notes
-----
{notes}

No floating-point warning is ever set, but by the casts that NumPy makes for `dtype`, for `out`
or for a Python number among the operands. The bits of a result depend on the input values
alone: not on position, strides, threads or instruction set.
"""

_X = "x : array_like\n    Input, of any shape."
_GRAD = "grad : array_like\n    Gradient of the loss with respect to the output of {}."
_SLOPE = (
    "negative_slope : array_like, default 0.01\n"
    "    Slope for x <= 0, by position or by name; rounded to the dtype of the result. It\n"
    "    broadcasts: one slope per channel, say."
)
_GRADIENT = "Gradient of the loss with respect to the input of {}."
_FLOATS = (
    "float16, float32, float64, and bfloat16 of ml_dtypes; integers are promoted as by `numpy.exp`."
)
_LEAKY = "At most 0.5 ULP: one rounding. Right for every slope; NaN and infinity follow IEEE 754."


def _doc(summary: str, parameters: tuple[str, ...], returns: str, see: str, *notes: str) -> str:
    """A docstring in numpydoc form."""
    common = _COMMON.format(returns=returns, see=see, notes=fill(" ".join(notes), 95))
    return "\n".join([summary, "", "Parameters", "----------", *parameters]) + common


OPERATIONS = (
    Operation(
        "relu",
        ("x",),
        _doc(
            "max(0, x), element by element.",
            (_X,),
            "NaN where x is NaN, +0 where it is -0.0.",
            "relu_backward, leaky_relu",
            "Exact, for float16, float32, float64, bfloat16 of ml_dtypes, and all integer dtypes.",
        ),
        integers=True,
        narrow="bits",
    ),
    Operation(
        "leaky_relu",
        ("x", "negative_slope"),
        _doc(
            "x where x > 0, else negative_slope * x.",
            (_X, _SLOPE),
            "NaN where x is NaN.",
            "leaky_relu_backward, relu",
            _FLOATS,
            _LEAKY,
        ),
        default=0.01,
    ),
    Operation(
        "sigmoid",
        ("x",),
        _doc(
            "1 / (1 + exp(-x)), the logistic function.",
            (_X,),
            "In [0, 1] and monotone; 0.5 at 0, NaN where x is NaN.",
            "sigmoid_backward, sigmoid_backward_from_output",
            _FLOATS,
            "At most 0.80 ULP in float32, over all inputs, and 0.8 in float64, as far as tried;",
            "correctly rounded in float16 and bfloat16. The tail is kept down to the smallest",
            "subnormal number (x near -103.97 in float32, -745.1 in float64).",
        ),
        narrow="own",
    ),
    Operation(
        "relu_backward",
        ("grad", "x"),
        _doc(
            "grad where x > 0, else 0.",
            (_GRAD.format("relu"), "x : array_like\n    Input or output of relu."),
            _GRADIENT.format("relu") + " NaN where x is NaN.",
            "relu",
            "Exact.",
            _FLOATS,
        ),
    ),
    Operation(
        "leaky_relu_backward",
        ("grad", "x", "negative_slope"),
        _doc(
            "grad where x > 0, else negative_slope * grad.",
            (_GRAD.format("leaky_relu"), "x : array_like\n    Input of leaky_relu.", _SLOPE),
            _GRADIENT.format("leaky_relu") + " NaN where x is NaN.",
            "leaky_relu",
            _FLOATS,
            _LEAKY,
        ),
        default=0.01,
    ),
    Operation(
        "sigmoid_backward",
        ("grad", "x"),
        _doc(
            "grad * s(x) * s(-x), the gradient of sigmoid from its input.",
            (_GRAD.format("sigmoid"), "x : array_like\n    Input of sigmoid."),
            _GRADIENT.format("sigmoid") + " 0 for infinite x, NaN where x is NaN.",
            "sigmoid, sigmoid_backward_from_output",
            _FLOATS,
            "At most 1.5 ULP, in both tails.",
        ),
        narrow="own",
    ),
    Operation(
        "sigmoid_backward_from_output",
        ("grad", "y"),
        _doc(
            "grad * y * (1 - y), the gradient of sigmoid from its output.",
            (_GRAD.format("sigmoid"), "y : array_like\n    Output of sigmoid."),
            _GRADIENT.format("sigmoid") + " NaN where y is NaN.",
            "sigmoid, sigmoid_backward",
            _FLOATS,
            "Cheaper than `sigmoid_backward`, and at most 1.5 ULP from the exact value for this y.",
            "But y has lost what x was where it is near 1: in float32 the result is off by",
            "thousands of ULP for x in [5, 10], and 0 from x = 17 on.",
        ),
    ),
)
