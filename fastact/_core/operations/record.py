"""The records of ufuncs: everything there is to say about one.

`Operation` is that of an elementwise ufunc, `RowOperation` that of one over an axis. `Record` has
what they have in common.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter, Signature
from textwrap import fill
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

_Record = TypeVar("_Record", bound="Record")


INPUT = "Input, of any shape."
FLOATS = (
    "Supports float16, float32, float64, and the bfloat16 of ml_dtypes. Integers are promoted "
    "as by `numpy.exp`."
)


class Bounds(NamedTuple):
    """The greatest errors allowed, in units in the last place (ULP).

    Attributes
    ----------
    narrow : float
        Of 16-bit types, with a gradient of 1.
    narrow_sampled : float
        Of 16-bit types, with any gradient.
    wide : float
        Of float32 and float64.
    """

    narrow: float
    narrow_sampled: float
    wide: float


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Record:
    """What the records of both kinds have.

    Attributes
    ----------
    name : str
    operands : tuple of str, default ("x",)
        The names of the inputs: `x` is the input of the activation, `y` its output, `grad` the
        gradient of the loss with respect to its output.
    summary : str
        The first line of the docstring.
    parameters : tuple of str
        What each operand is, for the docstring.
    returns : str
        What the result is, for the docstring.
    see : str
        Names of related functions, for the docstring.
    notes : str
        The dtypes and the accuracy, for the docstring.
    exact : callable
        ``exact(m, *operands)`` computes the exact result, given operands of a wider type. `m`
        has the mathematical functions: it is `numpy`, or a namespace with the functions of
        gmpy2, numbers of MPFR, over arrays. Use what both have under one name (`exp`, `expm1`,
        `log1p`, `tanh`, ...), and `where`, `abs` and `sign`. The formula must hold over the
        whole range of the wider type, to a few of its roundings. It shares nothing with the
        kernels. A NaN must come out as NaN.
    numpy : callable
        ``numpy(*operands, out)`` does what a careful user of NumPy would write: in place
        wherever possible, and without branches. `np.where` and `where=` take some 4 ns an
        element where signs are random. It returns `out`.
    bounds : Bounds
    subtracted : callable, optional
        ``subtracted(m, *operands)`` computes what is subtracted to get the result. If there is any,
        the errors are in ULP of the larger one of this and the result. Elementwise operations are
        correctly rounded for 16-bit types all the same.
    output_of : str, optional
        The name of the activation whose output an operand `y` is.
    peers : mapping of str to Any
        How other packages compute it, by the name of the peer. Each class in `asv_bench/peers`
        says what it expects here. A package that lacks the operation is left out.
    """

    name: str
    operands: tuple[str, ...] = ("x",)
    summary: str
    parameters: tuple[str, ...] = (INPUT,)
    returns: str
    see: str
    notes: str
    exact: Callable[..., Any]
    numpy: Callable[..., Any]
    bounds: Bounds
    subtracted: Callable[..., Any] | None = None
    output_of: str | None = None
    peers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.parameters) != len(self.operands):
            raise ValueError(f"{self.name}: parameters must describe each of {self.operands}")
        if ("y" in self.operands) != (self.output_of is not None):
            raise ValueError(f"{self.name}: output_of must tell whose output the operand y is")

    @property
    def forward(self) -> bool:
        """Whether this is an activation, not a backward pass."""
        return self.operands[0] == "x"

    @property
    def core(self) -> str | None:
        """The signature of the ufunc if it is a generalized one."""
        return None

    @cached_property
    def doc(self) -> str:
        """The docstring in numpydoc form, without the signature."""
        parameters = "\n".join(
            f"{name} : array_like{self._default_text(name)}\n{_indented(text)}"
            for name, text in zip(self.operands, self.parameters, strict=True)
        )
        return _DOCSTRING.format(
            **_OF_ELEMENTS if self.core is None else _OF_ROWS,
            summary=self.summary,
            parameters=parameters,
            returns=_indented(self.returns),
            see=self.see,
            notes=fill(self.notes, _WIDTH),
        )

    def _default_text(self, name: str) -> str:
        """What the docstring says about the default of an operand."""
        return ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Operation(Record):
    """A public ufunc. These are its fields besides those of `Record`.

    Attributes
    ----------
    default : float, optional
        The value of the last operand if it is left out. Such an operand is a parameter: it can
        be given by name, and peers take it as a number.
    range : tuple of float, optional
        The lowest and the highest result. They are rounded to the dtype of the result.
    monotone : bool, default False
        Whether the result never falls where `x` rises. For operations of `x` alone.
    numpy_ulp : float, default 4
        The greatest error allowed to `numpy` for x in [-4, 4], in ULP.
    integers : bool, default False
        Whether integer dtypes are kept. If not, they are promoted as by `numpy.exp`.
    narrow : {"float32", "own", "bits"}, default "float32"
        How 16-bit types are computed: "float32" by the formula for float32, between two
        conversions; "own" in the same way, by a formula ``<name>_narrow`` over float; "bits" by
        a formula ``<name>_half(bits, infinity)``, without conversions.
    costly : bool, default False
        Whether there is an exponential in it.
    """

    default: float | None = None
    range: tuple[float, float] | None = None
    monotone: bool = False
    numpy_ulp: float = 4.0
    integers: bool = False
    narrow: Literal["float32", "own", "bits"] = "float32"
    costly: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.monotone and self.operands != ("x",):
            raise ValueError(f"{self.name}: only an operation of x alone can be monotone")

    @property
    def parameter(self) -> str | None:
        """The name of the operand that has a default."""
        return None if self.default is None else self.operands[-1]

    @property
    def correctly_rounded(self) -> bool:
        """Whether float32 and float64 results are the numbers nearest to the exact ones."""
        return self.bounds.wide <= 0.5

    @cached_property
    def signature(self) -> Signature:
        """The call: operands by position, and the last one also by name if it has a default."""
        return _signature(self.operands, {"where": True} | _UFUNC_KEYWORDS, self.default)

    def _default_text(self, name: str) -> str:
        return f", default {self.default}" if name == self.parameter else ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RowOperation(Record):
    """A public generalized ufunc, whose results depend on a row of each operand.

    `exact` and `numpy` compute over the last axis, and `m` is always `numpy`.
    """

    default: ClassVar[None] = None
    parameter: ClassVar[None] = None
    integers: ClassVar[bool] = False
    costly: ClassVar[bool] = True

    @property
    def core(self) -> str:
        """The signature of the ufunc."""
        return f"{','.join(['(n)'] * len(self.operands))}->(n)"

    @cached_property
    def signature(self) -> Signature:
        """The call: operands by position."""
        return _signature(self.operands, {"axis": -1, "axes": None} | _UFUNC_KEYWORDS)


def backward_of(
    record: type[_Record],
    activation: str,
    operand: Literal["x", "y"] = "x",
    parameters: Mapping[str, str] | None = None,
    **fields: Any,
) -> _Record:
    """Make the record of a backward pass, with what all of them say unless `fields` say it.

    Parameters
    ----------
    record : {Operation, RowOperation}
    activation : str
    operand : {"x", "y"}
        What it takes besides `grad`: the input of the activation, or its output.
    parameters : mapping of str to str, optional
        What each further operand is; or `operand`, if there is more to say.
    **fields
        Those of the record. `returns` is what there is to add to what the gradient is.
    """
    gradient = "Gradient of the loss with respect to the"
    place = "Input" if operand == "x" else "Output"
    described = {
        "grad": f"{gradient} output of `{activation}`.",
        operand: f"{place} of `{activation}`.",
        **(parameters or {}),
    }
    returns = fields.pop("returns", f"NaN where `{operand}` is NaN.")
    common = {
        "name": f"{activation}_backward",
        "operands": tuple(described),
        "parameters": tuple(described.values()),
        "returns": f"{gradient} input of `{activation}`. {returns}".strip(),
        "see": activation,
        "bounds": Bounds(0.5, 1.0, 1.5),
        "output_of": activation if operand == "y" else None,
    }
    return record(**common | fields)


def _signature(
    operands: tuple[str, ...], keywords: dict[str, Any], default: float | None = None
) -> Signature:
    kinds = Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY
    parameters = [Parameter(operand, kinds[0]) for operand in operands]
    if default is not None:
        parameters[-1] = Parameter(operands[-1], kinds[1], default=default)
    parameters.append(Parameter("out", kinds[1], default=None))
    parameters += [Parameter(name, kinds[2], default=value) for name, value in keywords.items()]
    return Signature(parameters)


_UFUNC_KEYWORDS: dict[str, Any] = {
    "casting": "same_kind",
    "order": "K",
    "dtype": None,
    "subok": True,
    "signature": None,
}

_WIDTH = 95

_DOCSTRING = """\
{summary}

Parameters
----------
{parameters}
out : ndarray, or tuple of one ndarray, optional
    Where to store the result. It must have the broadcast shape of the operands, and may be one
    of them.
{keywords}

Returns
-------
ndarray{scalar}
{returns}

Raises
------
TypeError
    If an operand has a dtype that is not supported (complex, object, string, ...), or if a
    keyword is unknown.
ValueError
    If {shapes}

See Also
--------
{see}

Notes
-----
{notes}

The function never sets a floating-point warning. {promise}
"""

# What is said of the ufuncs of elements, and of those of rows.
_OF_ELEMENTS = {
    "keywords": """\
where, casting, order, dtype, subok, signature
    As for every `numpy.ufunc`.""",
    "scalar": ", or scalar if all operands are scalars",
    "shapes": "the shapes do not broadcast, or if `out` is read-only or has the wrong shape.",
    "promise": """\
The casts that NumPy makes can set one: those
for `dtype`, for `out`, and of Python numbers among the operands. The bits of each element of
the result depend on the values of its operands alone: not on its position, the strides, the
number of threads or the instruction set.""",
}
_OF_ROWS = {
    "keywords": """\
axis : int, default -1
    The axis along which the function is computed.
axes, casting, order, dtype, subok, signature
    As for every generalized `numpy.ufunc`. There is no `where`.""",
    "scalar": "",
    "shapes": """\
an operand has no dimensions, the shapes do not broadcast, or `out` is read-only or has the
    wrong shape.
numpy.exceptions.AxisError
    If an operand does not have the axis.""",
    "promise": """\
The casts that NumPy makes for `dtype` and `out`
can set one. The bits of a row of the result depend on the values of the rows of its operands alone:
not on their position, the strides, the number of threads or the instruction set.""",
}


def _indented(text: str) -> str:
    return fill(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")
