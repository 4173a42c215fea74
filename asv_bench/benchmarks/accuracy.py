"""Greatest errors, in units in the last place. They are the same on every machine."""

import numpy as np

from ._cases import DTYPES, OPERATIONS, dtype_of, errors, figure, function_of, round_to_digits

INPUTS = 1 << 18

# The exact values are those of the checkout, for every commit.
BY_NAME = {operation.name: operation for operation in OPERATIONS}
INEXACT = [name for name, operation in BY_NAME.items() if not operation.correctly_rounded]


class Ulp:
    """Over inputs of every magnitude where exp(-|x|) is not 0."""

    params = (INEXACT, DTYPES)
    param_names = ("ufunc", "dtype")
    version = "1"
    timeout = 120

    def setup(self, ufunc, dtype):
        self.function = function_of(ufunc, dtype)
        self.dtype = dtype_of(dtype)
        self.info = errors.float_info(self.dtype)
        if errors.wider(self.dtype) is None:
            raise NotImplementedError("numpy.longdouble is not longer than float64 here")

    @figure("Greatest error", "ULP")
    def track_greatest_error(self, ufunc, _):
        operation = BY_NAME[ufunc]
        operands = {name: self.operand(name, operation) for name in operation.operands}
        exact = errors.exact(operation, operands, self.dtype)
        error = errors.ulp_error(self.function(*operands.values()), exact)
        return round_to_digits(float(error.max()))

    def operand(self, name, operation):
        """Draw an operand of the ufunc, in its dtype."""
        # exp(-edge) is the smallest subnormal.
        edge = -np.log(float(self.info.smallest_subnormal))
        random = np.random.default_rng(0)
        if name == "x":
            size = np.exp(random.uniform(np.log(float(self.info.tiny)), np.log(edge), INPUTS))
            values = np.concatenate([random.uniform(-edge, edge, INPUTS), size, -size])
        elif name == "y":
            lowest, highest = BY_NAME[operation.output_of].range
            even = random.uniform(lowest, highest, INPUTS)
            values = np.concatenate([even, np.exp(-random.uniform(0, edge, INPUTS))])
        elif name == "grad":
            count = (3 if "x" in operation.operands else 2) * INPUTS
            values = np.random.default_rng(1).standard_normal(count)
        else:
            values = np.asarray(operation.default)
        return values.astype(self.dtype)
