"""Greatest errors, in units in the last place. They are the same on every machine."""

import numpy as np

from ._cases import DTYPES, OPERANDS, dtype_of, function_of, ml_dtypes, round_to_digits

INPUTS = 1 << 18


def _sigmoid(x):
    decay = np.exp(-np.abs(x))
    return np.where(x < 0, decay, 1) / (1 + decay)


def _sigmoid_backward(grad, x):
    decay = np.exp(-np.abs(x))
    return grad * (decay / (1 + decay) ** 2)


EXACT = {
    "sigmoid": _sigmoid,
    "sigmoid_backward": _sigmoid_backward,
    "sigmoid_backward_from_output": lambda grad, y: grad * (y * (1 - y)),
}


class Ulp:
    """Over inputs of every magnitude, where the result is not 0 or 1 throughout."""

    params = (list(EXACT), DTYPES)
    param_names = ("ufunc", "dtype")
    version = "1"
    timeout = 120

    def setup(self, ufunc, dtype):
        self.function = function_of(ufunc, dtype)
        self.dtype = dtype_of(dtype)
        self.wide = np.dtype(np.float64 if self.dtype.itemsize < 8 else np.longdouble)
        if np.finfo(self.wide).nmant < 52 + 11 * (self.dtype.itemsize == 8):
            raise NotImplementedError("numpy.longdouble is not longer than float64 here")

    def track_greatest_error(self, ufunc, _):
        x = self.inputs(ufunc)
        operands = [x]
        if "grad" in OPERANDS[ufunc]:
            grad = np.random.default_rng(1).standard_normal(x.size).astype(self.dtype)
            operands = [grad, x]
        with np.errstate(all="ignore"):
            exact = EXACT[ufunc](*(operand.astype(self.wide) for operand in operands))
            error = np.abs(self.function(*operands).astype(self.wide) - exact) / self.ulp(exact)
        return round_to_digits(float(error.max()))

    track_greatest_error.pretty_name = "Greatest error"
    track_greatest_error.unit = "ULP"

    def inputs(self, ufunc):
        """Draw inputs; the output y of sigmoid is in [0, 1]."""
        info = self.info()
        # exp(-edge) is the least that sigmoid can give.
        edge = -np.log(float(info.smallest_subnormal))
        random = np.random.default_rng(0)
        if ufunc == "sigmoid_backward_from_output":
            x = np.concatenate(
                [random.uniform(0, 1, INPUTS), np.exp(-random.uniform(0, edge, INPUTS))]
            )
        else:
            size = np.exp(random.uniform(np.log(float(info.tiny)), np.log(edge), INPUTS))
            x = np.concatenate([random.uniform(-edge, edge, INPUTS), size, -size])
        return x.astype(self.dtype)

    def ulp(self, exact):
        """Find the distance of the numbers of the type around exact values."""
        info = self.info()
        exponent = np.maximum(np.frexp(exact)[1] - 1, info.minexp)
        return np.ldexp(self.wide.type(1), exponent - info.nmant)

    def info(self):
        return (np if self.dtype.kind == "f" else ml_dtypes).finfo(self.dtype)
