"""Plants faults in a copy of the source tree, one at a time, and says which test finds each.

    python tests/faults.py [--folder FOLDER] [NAME ...]

A test that never failed proves little. Each fault below is one that a change could bring: a wrong
coefficient, a stride that is forgotten, a check that is dropped. One fault at a time is planted and
built, and tests run until one fails: those named beside the fault, with `--quick` and then without,
and if they miss it, all tests in the same two ways. The exit status is 0 if every fault is found.

Needs what the tests need. The copy has the instruction sets that FASTACT_TARGETS names; all, by
default.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ACTIVATIONS, CORE, KERNELS = "fastact/activations", "fastact/_core", "fastact/_core/kernels"


class Fault(NamedTuple):
    """A text in a file, which occurs once, and what is put in its place."""

    name: str
    path: str
    old: str
    new: str
    tests: str  # those that run first: arguments of pytest


FAULTS = [
    # ------------------------------------------------------------------ formulas
    Fault(
        "a wrong coefficient, in the last digits, of the exponential",
        f"{ACTIVATIONS}/exponential.pxd",
        "p01 = fma(t, <float> -0.16666520634939012, <float> 0.49999993449121903)",
        "p01 = fma(t, <float> -0.16666520634939012, <float> 0.49999893449121903)",
        "tests/test_ufuncs.py tests/test_bits.py",
    ),
    Fault(
        "a wrong coefficient in double precision",
        f"{ACTIVATIONS}/exponential.pxd",
        "p45 = fma(t, -0.0001984126950656992, 0.0013888888943630203)",
        "p45 = fma(t, -0.0001984126950656992, 0.0013888888953630203)",
        "tests/test_ufuncs.py tests/test_bits.py",
    ),
    Fault(
        "a wrong coefficient of tanh",
        f"{ACTIVATIONS}/tanh.pxd",
        "<float> 0.3333302438259125",
        "<float> 0.3333402438259125",
        "tests/test_ufuncs.py tests/test_bits.py -k tanh",
    ),
    Fault(
        "a swapped operand in the gradient of sigmoid",
        f"{ACTIVATIONS}/sigmoid.pxd",
        "return logistic_slope(grad, x, <real> 1)",
        "return logistic_slope(x, grad, <real> 1)",
        "tests/test_ufuncs.py -k sigmoid_backward",
    ),
    Fault(
        "a NaN dropped by the gradient of relu",
        f"{ACTIVATIONS}/relu.pxd",
        "cdef real result = grad if x > 0 else 0\n    return result if x == x else x",
        "cdef real result = grad if x > 0 else 0\n    return result",
        "tests/test_ufuncs.py -k relu_backward",
    ),
    Fault(
        "a NaN dropped by the conversion to bfloat16",
        f"{ACTIVATIONS}/half.pxd",
        "return <uint16_t> (rounded if x == x else nan)",
        "return <uint16_t> rounded",
        "tests/test_nan.py tests/test_ufuncs.py",
    ),
    Fault(
        "a tail of sigmoid cut off",
        f"{ACTIVATIONS}/sigmoid.pxd",
        "lowest, highest = <float> -104.5, 25",
        "lowest, highest = <float> -89, 25",
        "tests/test_ufuncs.py -k sigmoid",
    ),
    Fault(
        "the sign of zero lost by tanh",
        f"{ACTIVATIONS}/tanh.pxd",
        "return with_sign(y if y < size else size, x)",
        "return (y if y < size else size) * (<real> 1 if x > 0 else <real> -1)",
        "tests/test_ufuncs.py -k tanh",
    ),
    Fault(
        "leaky_relu as a maximum, wrong for slopes above 1",
        f"{ACTIVATIONS}/leaky_relu.pxd",
        "return x if x > 0 else negative_slope * x",
        "return x if x > negative_slope * x else negative_slope * x",
        "tests/test_ufuncs.py -k leaky_relu",
    ),
    Fault(
        "ties rounded up by the conversion to float16",
        f"{ACTIVATIONS}/half.pxd",
        "(size + 0x0FFF + ((size >> 13) & 1)",
        "(size + 0x1000",
        "tests/test_ufuncs.py",
    ),
    # ------------------------------------------------------------------- kernels
    Fault(
        "off by one at the end of a vector: the last element is not stored",
        f"{KERNELS}/conversions.pxi",
        "    for i in range(n):\n        bfloat[i] = to_bfloat(x[i])",
        "    for i in range(n & ~15 if n & 15 == 1 else n):\n        bfloat[i] = to_bfloat(x[i])",
        "tests/test_ufuncs.py",
    ),
    Fault(
        "off by one at the end of every second element: the last one is that before",
        f"{KERNELS}/copies.pxi",
        "out[n - 1] = x[2 * n - 2]",
        "out[n - 1] = x[2 * n - 3]",
        "tests/test_ufuncs.py",
    ),
    Fault(
        "a wrong step in the transposition",
        f"{KERNELS}/copies.pxi",
        "cdef Py_ssize_t target_outer = item if by_rows else out_step",
        "cdef Py_ssize_t target_outer = item",
        "tests/test_ufuncs.py tests/test_rows.py",
    ),
    Fault(
        "the gradient of the squared error with the wrong sign",
        f"{KERNELS}/training.pxi",
        "range(n % LANES):\n        gradient[j] = (prediction[j] - target[j]) * factor",
        "range(n % LANES):\n        gradient[j] = (target[j] - prediction[j]) * factor",
        "tests/test_training.py",
    ),
    Fault(
        "momentum forgotten by a step of gradient descent",
        f"{KERNELS}/training.pxi",
        "velocity[i] = momentum * velocity[i] + gradient[i]",
        "velocity[i] = velocity[i] + gradient[i]",
        "tests/test_training.py",
    ),
    Fault(
        "the gradient of the bias keeps only the last row",
        f"{KERNELS}/training.pxi",
        "total[j] += matrix[j]",
        "total[j] = matrix[j]",
        "tests/test_networks.py tests/test_dense.py",
    ),
    # -------------------------------------------------------------------- driver
    Fault(
        "an overlap not seen by the engine",
        f"{CORE}/driver/engine.pyx",
        "        found = AHEAD\n",
        "",
        "tests/test_protocol.py",
    ),
    Fault(
        "an overlap not seen by arrays of two dimensions",
        f"{CORE}/driver/plans.pyx",
        "        if not same and low < stop and start < high:\n            return False",
        "        if not same and low < start and start < high:\n            return False",
        "tests/test_memory.py tests/test_ufuncs.py tests/test_protocol.py",
    ),
    Fault(
        "an overlap not seen by the call",
        f"{CORE}/calls/fast.pyx",
        "if data[i] != target and data[i] < target + n * kernel.item and target",
        "if data[i] > target and data[i] < target + n * kernel.item and target",
        "tests/test_protocol.py",
    ),
    Fault(
        "a wrong stride: blocks of a strided operand start at its first element",
        f"{CORE}/driver/engine.pyx",
        "        array = line[i] + column * grid.along[i]\n",
        "        array = line[i] + column * item\n",
        "tests/test_ufuncs.py",
    ),
    Fault(
        "dimensions merged that do not lie behind each other",
        f"{CORE}/driver/plans.pyx",
        "                    plan.steps[plan.ndim - 1][i] * plan.dims[plan.ndim - 1]):\n"
        "                one = False",
        "                    plan.steps[plan.ndim - 1][i] * plan.dims[plan.ndim - 1]):\n"
        "                one = i > 0 and one",
        "tests/test_ufuncs.py",
    ),
    Fault(
        "an output whose elements coincide is taken for one of distinct elements",
        f"{CORE}/driver/plans.pyx",
        "if step < extent and plan.dims[k] > 1:",
        "if step < 0:",
        "tests/test_protocol.py",
    ),
    Fault(
        "floating-point flags not restored",
        f"{CORE}/driver/engine.pyx",
        "        split(run_span, &grid, n, 64, n)\n    restore_flags(flags)",
        "        split(run_span, &grid, n, 64, n)",
        "tests/test_ufuncs.py tests/test_extreme_numbers.py",
    ),
    Fault(
        "a result in C order for operands in Fortran order",
        f"{CORE}/calls/fast.pyx",
        "result = new_result(first, n * kernel.item, not order & cnp.NPY_ARRAY_C_CONTIGUOUS)",
        "result = new_result(first, n * kernel.item, False)",
        "tests/test_ufuncs.py tests/test_protocol.py",
    ),
    Fault(
        "a read-only out is written",
        f"{CORE}/calls/fast.pyx",
        "return flags & cnp.NPY_ARRAY_WRITEABLE and not flags & WARN_ON_WRITE",
        "return not flags & WARN_ON_WRITE",
        "tests/test_protocol.py tests/test_memory.py",
    ),
    Fault(
        "a slope passed by name is ignored",
        f"{CORE}/calls/fast.pyx",
        "                last = args[given + i]\n            elif name == <PyObject *> AXIS",
        "                last = NULL\n            elif name == <PyObject *> AXIS",
        "tests/test_ufuncs.py tests/test_protocol.py -k leaky",
    ),
    Fault(
        "a reference leaked by every general call",
        f"{CORE}/calls/general.pyx",
        "    cdef tuple values = (*operands, *keywords.values())\n",
        "    cdef tuple values = (*operands, *keywords.values())\n"
        '    vars(refuse).setdefault("kept", []).append(values)\n',
        "tests/test_leaks.py",
    ),
    Fault(
        "a missing lock: two calls share the workers",
        f"{CORE}/runtime/workers.h",
        "    if (pthread_mutex_trylock(&fastact_pool.owner))\n        return 0;",
        "    pthread_mutex_trylock(&fastact_pool.owner);",
        "tests/test_shared_state.py tests/test_targets.py tests/test_processes.py",
    ),
    Fault(
        "the last part of a share is not computed",
        f"{CORE}/runtime/workers.h",
        "fastact_pool.share[i].stop = start = start < n ? start : n;",
        "fastact_pool.share[i].stop = start = start < n ? start : n - 1;",
        "tests/test_ufuncs.py tests/test_rows.py tests/test_targets.py",
    ),
    Fault(
        "a forked child believes that it has its parent's workers",
        f"{CORE}/runtime/workers.h",
        "static void fastact_after_fork(void) { fastact_forked = 1; }",
        "static void fastact_after_fork(void) { fastact_forked = 0; }",
        "tests/test_processes.py",
    ),
    Fault(
        "kept buffers exceed their limit",
        f"{CORE}/runtime/memory.pyx",
        "drop(room() - size)",
        "drop(room())",
        "tests/test_memory.py",
    ),
    Fault(
        "a result is reused that the caller still holds a view of",
        f"{CORE}/networks/pools.pyx",
        "(Py_REFCNT(o) == 1 \\\\",
        "(Py_REFCNT(o) <= 2 \\\\",
        "tests/test_dense.py tests/test_networks.py",
    ),
    # ---------------------------------------------------------- layers and losses
    Fault(
        "a gradient of the wrong sign in a layer",
        "fastact/layers/_activations.py",
        "return self._gradient(array, kept, self._pool.like(array, kept) if out is None else out)",
        "return -self._gradient(array, kept, self._pool.like(array, kept) if out is None else out)",
        "tests/test_layers.py tests/test_networks.py",
    ),
    Fault(
        "an input that out overwrites is kept without a copy",
        "fastact/layers/_activations.py",
        "            kept = np.array(array, subok=True)\n",
        "            kept = array\n",
        "tests/test_layers.py tests/test_networks.py",
    ),
    Fault(
        "a label not checked",
        f"{CORE}/networks/training.pyx",
        "wrong |= labels[i] < 0 or labels[i] >= n",
        "wrong |= labels[i] < 0 or labels[i] > n",
        "tests/test_training.py",
    ),
    Fault(
        "a bound not checked: a momentum of 1",
        "fastact/optimizers.py",
        "if self._momentum >= 1:",
        "if self._momentum > 1:",
        "tests/test_training.py",
    ),
    Fault(
        "a state of the wrong shape is broadcast into a parameter",
        "fastact/layers/_base.py",
        "if value.shape != parameter.shape:",
        "if value.size > parameter.size:",
        "tests/test_layers.py tests/test_networks.py",
    ),
    # ------------------------------------------------- compiled API, stub, command
    Fault(
        "a promise in the stub: an operand by name that the function does not take",
        f"{CORE}/generate.py",
        'operands.append("/")',
        "pass",
        "tests/test_complete.py tests/typing",
    ),
    Fault(
        "a target is picked that the processor does not have",
        f"{CORE}/targets.py",
        "if features.issuperset(t.features)",
        "if features.intersection(t.features) or not t.features",
        "tests/test_targets.py tests/test_environment.py",
    ),
    Fault(
        "swapped operands in the compiled API",
        "fastact/cy/_generate.py",
        'f"    operands[{i}] = <char *> {',
        'f"    operands[{len(inputs) - 1 - i}] = <char *> {',
        "tests/compiled",
    ),
    Fault(
        "a check that cannot fail: falls of a monotone function are not seen",
        "fastact/_command/check/measure.py",
        "falls = ((x1 >= x0) & (y1 < y0)) | ((x1 <= x0) & (y1 > y0))",
        "falls = ((x1 >= x0) & (y1 < y0)) & ((x1 <= x0) & (y1 > y0))",
        "tests/test_check.py",
    ),
    # ---------------------------------------------------------------------- rows
    Fault(
        "softmax without its largest element: overflow",
        f"{ACTIVATIONS}/softmax.pxd",
        "return <real> 0 if absolute(top) <= near else top",
        "return <real> 0",
        "tests/test_rows.py",
    ),
    Fault(
        "rows beside each other read with the step of the first operand",
        f"{CORE}/driver/engine.pyx",
        "elements[i] = grid.down[i] >> ",
        "elements[i] = grid.down[0] >> ",
        "tests/test_rows.py",
    ),
    Fault(
        "the last row of a thread's share is left out",
        f"{CORE}/driver/engine.pyx",
        "        if grid.direct:\n            run_direct(",
        "        if rows == 1 and grid.shape == ROWS:\n            return\n"
        "        if grid.direct:\n            run_direct(",
        "tests/test_rows.py",
    ),
]


def run(command, folder, environment=None, limit=3600):
    """Run a command; its exit status and what it printed. The status of one that hangs is 124."""
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, timeout=limit, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return 124, f"FAILED (no end after {limit} s)\n{error.stdout or ''}"
    return done.returncode, done.stdout


def build(folder):
    """Build the copy in place; what was printed if it failed, else None."""
    status, said = run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], folder)
    return said if status else None


def copy(folder):
    """Copy what git tracks, or would track, and build it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != (ROOT / name).read_bytes():
            shutil.copyfile(ROOT / name, target)
    if problem := build(folder):
        sys.exit(f"the copy does not build:\n{problem}")
    # An environment in which the copy is installed, and all that is installed here.
    venv.create(folder / ".venv")
    place = sysconfig.get_path("purelib", "venv", {"base": folder / ".venv"})
    found = f"{folder}\n{sysconfig.get_path('purelib')}\n"
    (Path(place) / "copy.pth").write_text(found, encoding="utf-8")


def finder(folder, arguments):
    """The test that fails first, or None. A test process that dies or hangs counts, too."""
    python = folder / ".venv" / "bin" / "python"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("FASTACT_TARGETS", None)  # it is for this build, not for those of tests
    command = [python, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    status, said = run([*command, *arguments], folder, environment)
    # 5: no test is selected, as by --quick where all that are named are slow.
    if status in (0, 5):
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return found[1] if found else f"pytest ended with {status}: {said.strip().splitlines()[-1]}"


def find(folder, fault):
    """What finds a fault, in which run, and after how many seconds."""
    path = folder / fault.path
    text = path.read_text(encoding="utf-8")
    started = time.monotonic()
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        if build(folder):
            return "the build", "build", time.monotonic() - started
        first = fault.tests.split()
        for name, arguments in (
            ("--quick", ["--quick", *first]),
            ("all", first),
            ("--quick", ["--quick"]),
            ("all", []),
        ):
            if test := finder(folder, arguments):
                return test, name, time.monotonic() - started
        return None, "", time.monotonic() - started
    finally:
        path.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="words of the faults to plant")
    parser.add_argument("--folder", type=Path, help="the copy, kept and used again")
    asked = parser.parse_args()
    faults = [f for f in FAULTS if all(name in f.name + f.path for name in asked.names)]
    for fault in faults:
        count = (ROOT / fault.path).read_text(encoding="utf-8").count(fault.old)
        if count != 1:
            sys.exit(f"{fault.path} has this text {count} times, wanted once:\n{fault.old}")
    # A build by pip would shadow the copy.
    os.environ.pop("FASTACT_ISA", None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        copy(folder)
        if test := finder(folder, ["--quick"]):
            sys.exit(f"a test fails without a fault: {test}")
        print("| fault | file | found by | run | s |\n|---|---|---|---|---:|", flush=True)
        missed = 0
        for fault in faults:
            test, name, seconds = find(folder, fault)
            missed += test is None
            cells = fault.name, fault.path, test or "**nothing**", name, f"{seconds:.0f}"
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{len(faults) - missed} of {len(faults)} faults found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
