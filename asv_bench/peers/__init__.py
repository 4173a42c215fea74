"""What only developers run: peers of fastact, goals of its speed, and an epoch of training.

``fastact bench --peers`` and ``--epoch``, and ``fastact check --peers``, import this package by its
path, from a source tree; it is not installed.

A peer is a package that is installed here: NumPy, SciPy, PyTorch, numba, numexpr, ONNX Runtime
or JAX. Each is used the way an expert would. Results go into `out` where the package can write
there. Views, models and compiled code are made beforehand, in `Peer.prepare`. No Python code is
around the call except the package's own. Only NumPy, numba and numexpr compose operations, as
that is what they are for. The others are asked for those that they offer.
"""

import importlib.util
import sys

from fastact._command.peers import Fastact, NumPy, Peer

from .jax import JAX
from .numba import Numba
from .numexpr import NumExpr
from .onnx_runtime import ONNXRuntime
from .pytorch import PyTorch
from .scipy import SciPy

PEERS = (NumPy, SciPy, PyTorch, Numba, NumExpr, ONNXRuntime, JAX)


def held_to_avx2() -> dict[str, str]:
    """List the variables of the environment that hold fastact and the peers to AVX2."""
    settings = [setting for peer in (Fastact, *PEERS) for setting in peer.avx2 or ()]
    return {name: value for name, _, value in (setting.partition("=") for setting in settings)}


def installed() -> list[Peer]:
    """Find the peers that are installed, NumPy first; tell on stderr which ones are broken."""
    peers: list[Peer] = []
    for peer in PEERS:
        if not all(importlib.util.find_spec(name.partition(".")[0]) for name in peer.modules):
            continue
        try:
            peers.append(peer())
        except Exception as error:
            # Whatever a package raises at import, the others can be compared.
            print(f"fastact: {peer.name} left out: {error!r}", file=sys.stderr)
    return peers
