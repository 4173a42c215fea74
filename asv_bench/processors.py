"""What hot_loops.py prints: cycles of the hot loops on processors that LLVM simulates."""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from typing import NamedTuple

import hot_loops
from hot_loops import ROOT, Loop, UnknownError

ARM = ROOT / "build" / "hot_loops"
X86 = ("avx512", "avx2", "baseline")
# The bytes of a vector of each instruction set.
VECTORS = {"avx512": 64, "avx2": 32, "baseline": 16, "arm64": 16}


class Processor(NamedTuple):
    """A processor as LLVM should know it.

    Attributes
    ----------
    name : str
    cpu : str
        LLVM's name.
    ports : str
        How the names of its ports start. LLVM knows many a processor by its name only, and
        simulates another one.
    fma : float
        In how many cycles it starts a fused multiply-add of 64 bytes. The models of some servers
        are those of laptops.
    sets : tuple of str
        The instruction sets that it runs.
    """

    name: str
    cpu: str
    ports: str
    fma: float = 0.5
    sets: tuple[str, ...] = X86


PROCESSORS = (
    Processor("Zen 3", "znver3", "Zn3", sets=X86[1:]),
    Processor("Zen 4", "znver4", "Zn4", fma=1),
    Processor("Skylake-X", "skylake-avx512", "SKX"),
    Processor("Ice Lake", "icelake-server", "ICX"),
    Processor("Sapphire Rapids", "sapphirerapids", "SPR"),
    Processor("Neoverse V1", "neoverse-v1", "V1", sets=("arm64",)),
    Processor("Neoverse V2", "neoverse-v2", "V2", sets=("arm64",)),
    # Up to LLVM 19, all of Apple's cores are simulated as Cyclone, of 2013.
    Processor("Apple Cyclone", "apple-a7", "Cy", sets=("arm64",)),
    Processor("Apple M1", "apple-m1", "(?!Cy)", sets=("arm64",)),
)

ARM_BUILD = """
import setuptools
from distutils.core import run_setup
build = run_setup("setup.py", ["-q", "build_ext", "--inplace"], stop_after="commandline")
build.ext_modules = [module for module in build.ext_modules if ".kernels." in module.name]
build.run_commands()
"""


def arm_module(compiler):
    """Compile the kernels of this tree for 64-bit Arm, in a copy, as they would be there."""
    if not shutil.which(compiler):
        raise UnknownError(f"there is no {compiler}, which compiles for 64-bit Arm")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        # The times are copied, too: Cython translates what is newer than its C file.
        if name.startswith(("fastact/", "setup.py", "pyproject.toml", "README.md")):
            (ARM / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, ARM / name)
    environment = {
        "CC": compiler,
        "LDSHARED": f"{compiler} -shared",
        "FASTACT_TARGETS": "baseline",
        "FASTACT_OBJECTS": os.environ.get("FASTACT_OBJECTS") or str(ROOT / "build" / "objects"),
    }
    command = [sys.executable, "-c", ARM_BUILD]
    done = subprocess.run(
        command, cwd=ARM, env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise UnknownError(f"{compiler} does not build the kernels: {done.stderr.strip()[-300:]}")
    return hot_loops.find(ARM / "fastact", "baseline")


def module_of(name, compiler):
    """The built kernel module of an instruction set."""
    if name == "arm64" and platform.machine() != "aarch64":
        return arm_module(compiler)
    return hot_loops.find(ROOT / "fastact", "baseline" if name == "arm64" else name)


def newest_mca():
    """The llvm-mca of the newest LLVM on the path, which has the best models."""
    names = ["llvm-mca", *(f"llvm-mca-{version}" for version in range(14, 40))]
    return [name for name in names if shutil.which(name)][-1:]


def run(mca, processor, machine, code, passes):
    """Run llvm-mca with some code, and return what it says: the names of ports, and the code."""
    command = [mca, "--json", f"-mtriple={machine}", f"-mcpu={processor.cpu}"]
    command.append(f"-iterations={passes}")
    done = subprocess.run(command, input=code, capture_output=True, text=True)
    if "not a recognized processor" in done.stderr:
        raise UnknownError(f"{mca} does not know it")
    if done.returncode or not done.stdout.lstrip().startswith("{"):
        raise UnknownError(f"{mca} fails: {' '.join(done.stderr.split())[:200]}")
    said = json.loads(done.stdout)
    # One of several equal ports has a number behind a point, as a byte.
    ports = [re.match(r"\w*", port)[0] for port in said["TargetInfo"]["Resources"]]
    return ports, said["CodeRegions"][0]


def doubt(mca, processor, machine, name):
    """What the model of a processor has wrong for an instruction set, or None.

    Raises
    ------
    UnknownError
        If LLVM has no model of it.
    """
    code = "vfmadd231ps %zmm1, %zmm2, %zmm3" if name == "avx512" else "nop"
    ports, region = run(mca, processor, machine, code, 1)
    if not re.match(processor.ports, ports[0]):
        raise UnknownError(f"{mca} has no model of it, and takes another one's, with a {ports[0]}")
    rate = region["InstructionInfoView"]["InstructionList"][0]["RThroughput"]
    if name == "avx512" and rate != processor.fma:
        return f"{mca} starts an FMA of 64 bytes every {rate:g} cycles, not every {processor.fma:g}"
    return None


def simulate(mca, processor, machine, body):
    """The cycles of one pass of a loop on a processor, and what takes them.

    Parameters
    ----------
    mca : str
        The command, such as ``"llvm-mca"``.
    processor : Processor
    machine : str
        Such as ``"x86_64"``.
    body : list of Instruction

    Returns
    -------
    cycles : float
    bottleneck : str
        ``"divider"``, a port by LLVM's name of it, ``"issue"`` (no more operations are started in a
        cycle), or ``"latency"``: each of these is idle for a fifth of the time or longer.
    """
    lines = [".Lhot:"]
    for instruction in body:
        # Where it jumps to, or the page of a constant, does not matter.
        operands = [re.sub("[0-9a-f]+ <.*>", ".Lhot", one) for one in instruction.operands]
        lines.append(f"{instruction.name} {', '.join(operands)}")
    # Some 10,000 instructions, so that the start of the first pass does not matter.
    passes = max(10, 10_000 // len(body))
    ports, region = run(mca, processor, machine, "\n".join(lines), passes)
    code, operations = region["Instructions"], region["InstructionInfoView"]["InstructionList"]
    divisions = {i: 0.0 for i, line in enumerate(code) if re.match(r"v?f?(div|sqrt)", line.strip())}
    busy, dividing = [0.0] * len(ports), [0.0] * len(ports)
    for use in region["ResourcePressureView"]["ResourcePressureInfo"]:
        i, port, cycles = use["InstructionIndex"], use["ResourceIndex"], use["ResourceUsage"]
        busy[port] += cycles if i < len(code) else 0  # the last ones are sums
        if i in divisions:
            dividing[port] += cycles
            divisions[i] = max(divisions[i], cycles)
    # A port starts an operation in each cycle, but a divider is busy for longer with one.
    if any(most <= operations[i]["NumMicroOpcodes"] for i, most in divisions.items()):
        raise UnknownError(f"the loop divides, which keeps no divider busy in {mca}")
    summary = region["SummaryView"]
    cycles = summary["TotalCycles"] / passes
    issue = summary["TotaluOps"] / passes / summary["DispatchWidth"]
    port = max(range(len(ports)), key=busy.__getitem__)
    if max(busy[port], issue) < 0.8 * cycles:
        return cycles, "latency"
    if issue > busy[port]:
        return cycles, "issue"
    if dividing[port] > busy[port] / 2:
        return cycles, "divider"
    return cycles, re.sub(f"^{processor.ports}", "", ports[port])


def table(module, name, patterns, mca):
    """The lines of the table of a kernel module, which was compiled for the set `name`."""
    machine, found = hot_loops.machine_of(module), hot_loops.loops(module)
    notes, processors, cells = {}, [], {}
    for processor in PROCESSORS if mca else ():
        if name in processor.sets:
            try:
                if reason := doubt(mca, processor, machine, name):
                    notes.setdefault(reason, []).append(processor.name)
                processors.append(processor)
            except UnknownError as reason:
                notes.setdefault(str(reason), []).append(processor.name)

    def simulated(pair):
        kernel, processor = pair
        try:
            return simulate(mca, processor, machine, found[kernel].body)
        except UnknownError as reason:
            return reason

    wanted = [one for one in found if not patterns or any(fnmatch(one, p) for p in patterns)]
    if not wanted:
        raise UnknownError(f"no kernel fits {', '.join(patterns)}; there is {', '.join(found)}")
    told = [kernel for kernel in wanted if isinstance(found[kernel], Loop)]
    pairs = [(kernel, processor) for kernel in told for processor in processors]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cells = dict(zip(pairs, pool.map(simulated, pairs), strict=True))
    rows = [["kernel", "a vector", "an element", *(one.name for one in processors)]]
    for kernel in wanted:
        loop = found[kernel]
        if isinstance(loop, UnknownError):
            notes.setdefault(str(loop), []).append(kernel)
            continue
        if loop.rare:
            notes.setdefault("what it does out of line is not counted", []).append(kernel)
        count = len(loop.body) / loop.elements
        row = [kernel, f"{count * VECTORS[name] / hot_loops.size_of(kernel):.1f}", f"{count:.3f}"]
        for processor in processors:
            said = cells[kernel, processor]
            if isinstance(said, UnknownError):
                notes.setdefault(f"on {processor.name}, {said}", []).append(kernel)
                row.append("-")
            else:
                row.append(f"{said[0] / loop.elements:.3f} {said[1]}")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    for reason, names in notes.items():
        lines += textwrap.wrap(f"{', '.join(names)}: {reason}.", 110, subsequent_indent="    ")
    return lines


def main():
    parser = argparse.ArgumentParser(
        description="Instructions of the hot loop of each kernel, a vector and an element; cycles "
        "an element on processors that LLVM simulates, and what takes them."
    )
    parser.add_argument("patterns", nargs="*", help="kernels, such as 'sigmoid_f*' (all)")
    parser.add_argument("--set", action="append", choices=VECTORS, help="instruction set (all)")
    parser.add_argument("--module", help="a kernel module to read instead, of the one --set")
    parser.add_argument("--mca", help="the llvm-mca to run (the newest on the path)")
    parser.add_argument("--cc", default="aarch64-linux-gnu-gcc", help="the compiler for 64-bit Arm")
    options = parser.parse_args()
    if options.module and len(options.set or ()) != 1:
        parser.error("--module needs one --set, which says what it was compiled for")
    mca = [options.mca] if options.mca else newest_mca()
    if not mca or not shutil.which(mca[0]):
        print(f"There is no {options.mca or 'llvm-mca'}, so there are no cycles: install llvm.")
        mca = [None]
    for name in options.set or VECTORS:
        print(f"\n{name}")
        try:
            module = options.module or module_of(name, options.cc)
            print("\n".join(table(module, name, options.patterns, mca[0])), flush=True)
        except UnknownError as reason:
            print(f"{name}: {reason}.")
