"""What runs in every call: instruction sets, kernels, their driver, ufuncs and dense layers.

The life of relu
----------------
From its record to a result. Paths are relative to the package; the names behind a path stand there.

When the package is built:

- `_core/operations/relu.py` has the record: `OPERATIONS` says what the operands, the docstring, the
  exact value and the error bounds of `relu` are. `_core/operations/__init__.py` collects it.
- `activations/relu.pxd` has the formula for one element: `relu`, and `relu_half` for the bits of
  16-bit types.
- `_core/generate.py` writes the loops over it (`units`) and its type for static tools (`stub`).
- `_core/kernels/loops/relu.pyx` is what it writes: `relu_f32` and others, each a loop over
  contiguous elements, and `fastact_relu`, which adds them to a kernel table.
- `_core/objects.py` compiles that file once for each instruction set in `_core/targets.py`, in
  `TARGETS`. `_core/kernels/table.c` makes the module of an instruction set from all units: `TABLE`.
- `cy/_generate.py` writes the functions for compiled code. They are in `cy/functions.txt`:
  `relu_f32`, `relu_f64` and `relu_scalar`.

When fastact is imported:

- `_core/cpu.pyx` asks the processor what it has (`features`), and `_core/targets.py` takes the best
  instruction set of those built (`choose`).
- `_core/ufuncs.pyx` looks up the loops of each type (`find_kernel`), and `make_ufunc` makes a
  `numpy.ufunc` of them, in which `fast_call` takes the place of NumPy's `vectorcall`.
- `_core/driver/kernel.pxd` describes what is known of a loop: `Kernel`.
- `__init__.py` has the public name, and `layers/_activations.py` the layer `ReLU`.

When it is called:

- `_core/calls/fast.pyx` finds the kernel for the type of x and makes the result (`fast_call`), or
  leaves the call to NumPy.
- `_core/driver/engine.pyx` has the loop through which NumPy comes back (`ufunc_loop`). It cuts
  strided and 16-bit arrays into blocks that stay in the cache (`run_tile`).
- `_core/runtime/threads.pyx` splits large arrays over threads (`split`).
- `_core/kernels/loops/relu.pyx`: at last, `relu_f32` runs.
"""
