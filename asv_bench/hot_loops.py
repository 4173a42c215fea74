#!/usr/bin/env python3
"""The hot loop of each kernel: its instructions, and its cycles on processors that are not at hand.

    python asv_bench/hot_loops.py [PATTERN ...] [--set avx512] [--mca llvm-mca] [--module PATH]

objdump takes the loops out of the built kernels of this tree, or of any module. Those for 64-bit
Arm are compiled by a cross compiler, into build/hot_loops. The cycles are those of llvm-mca, which
knows the ports and latencies of a processor, and takes every load for one from the L1 cache. What
cannot be told is said in a sentence below the table, and has no number.
"""

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "fastact" / "_core"

# Machines by their numbers in ELF files.
MACHINES = {62: "x86_64", 183: "aarch64"}


class UnknownError(Exception):
    """What cannot be told, and why, in words that end a sentence."""


# ------------------------------------------------------------------- what a module has


class Instruction(NamedTuple):
    """An instruction as objdump writes it; `target` is the address to which it jumps, or None."""

    address: int
    name: str
    operands: tuple[str, ...]
    target: int | None = None


def _load(name):
    """Import a module of the core by its path: what is measured may be another fastact."""
    path = CORE / name
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    folders = [str(path.parent)] if path.stem == "__init__" else None
    spec = importlib.util.spec_from_file_location(
        f"hot_loops_{name}", path, submodule_search_locations=folders
    )
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def kernels():
    """The names in the kernel table of this tree, each with those that its function may have.

    Functions of fused types have the number of the type behind their names. Earlier commits had
    them for each activation.
    """
    records, generate = _load("operations"), _load("generate")
    order, found, kinds = [*generate.REALS, *generate.INTEGERS], {}, {}
    for text in generate.units(records.OPERATIONS, records.ROW_OPERATIONS).values():
        for name, loop, kind in re.findall(r'b"(\w+)", <void \*> (\w+)(?:\[(\w+)\])?', text):
            stem, _, last = loop.rpartition("_")
            numbers = kinds.setdefault(loop, {})
            if kind:
                found[name] = [f"{loop} {numbers.setdefault(kind, len(numbers))}"]
            else:
                found[name] = [loop, *(f"{stem} {i}" for i, one in enumerate(order) if one == last)]
    return found


def size_of(kernel):
    """The bytes of an element, from the type at the end of a kernel's name."""
    kind = kernel.rpartition("_")[2]
    kind = {"narrow": "f32", "bf16": "f16"}.get(kind, kind)  # narrow: float, between conversions
    if bits := re.fullmatch(r"[fiu](\d+)", kind):
        return int(bits[1]) // 8
    if not kind.isdigit():
        raise UnknownError("it is for elements of any size")
    return int(kind)


def _function(symbol):
    """The name of a function without what Cython writes before it: modules after their lengths."""
    found = re.fullmatch(r"(?:__pyx_fuse_(\d+))?__pyx_f_(.+)", symbol)
    rest = found[2] if found else symbol
    while length := re.match(r"\d+", rest):
        rest = rest[len(length[0]) + int(length[0]) + 1 :]
    return f"{rest} {found[1]}" if found and found[1] else rest


_HEAD = re.compile(r"[0-9a-f]+ <(.+)>:$")
_LINE = re.compile(r" *([0-9a-f]+):\t(\S+)\s*(.*)")
# Behind the operands: the address of a constant, or a number in another form.
_REMARK = re.compile(r"\s+(?:#|//) ")
_COMMA = re.compile(r",\s*(?![^(\[{]*[)\]}])")
_JUMP = re.compile(r"j|b(\.\w+)?$|[ct]bn?z$")
_TARGET = re.compile(r"([0-9a-f]+) <")


def parse(text, wanted):
    """Read what objdump writes: for each of the functions that are wanted, its instructions."""
    functions, code = {}, None
    for line in text.splitlines():
        if found := _HEAD.match(line):
            name = _function(found[1])
            code = functions.setdefault(name, []) if name in wanted else None
        elif code is not None and (found := _LINE.match(line)):
            said = _REMARK.split(found[3])[0].strip()
            operands = tuple(_COMMA.split(said)) if said else ()
            to = _TARGET.match(operands[-1]) if operands and _JUMP.match(found[2]) else None
            target = int(to[1], 16) if to else None
            code.append(Instruction(int(found[1], 16), found[2], operands, target))
    return functions


def machine_of(path):
    """The name of the machine that a module is for."""
    head = Path(path).read_bytes()[:20] if Path(path).is_file() else b""
    number = int.from_bytes(head[18:20], "little")
    if head[:4] != b"\x7fELF" or number not in MACHINES:
        raise UnknownError(f"{path} is no module for Linux on x86-64 or 64-bit Arm")
    return MACHINES[number]


def find(package, name):
    """The kernel module of an instruction set in an installed fastact, wherever a commit has it."""
    found = [*Path(package).rglob(f"_{name}.*.so"), *Path(package).rglob(f"{name}.*.so")]
    if not found:
        raise UnknownError(f"{package} has no kernels for {name}")
    return min(found, key=lambda path: len(path.parts))


def loops(path):
    """Find the hot loops of a kernel module: for each kernel of the table, a Loop, or why not."""
    machine = machine_of(path)
    here = machine == platform.machine()
    objdump = "objdump" if here else f"{machine}-linux-gnu-objdump"
    if not shutil.which(objdump):
        raise UnknownError(f"there is no {objdump}: install binutils for {machine}")
    command = [objdump, "-d", "--no-show-raw-insn", path]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UnknownError(f"{objdump} does not read {path}: {done.stderr.strip()}")
    wanted = {name for names in kernels().values() for name in names}
    functions, found = parse(done.stdout, wanted), {}
    for kernel, names in kernels().items():
        for function in functions.keys() & set(names):
            try:
                found[kernel] = hot_loop(functions[function], size_of(kernel))
            except UnknownError as reason:
                found[kernel] = reason
    if not found:
        raise UnknownError(f"{path} has no symbols of kernels: it may have been stripped")
    return found


def instructions(path):
    """Count the instructions of the hot loops for each 64 bytes of an array.

    Parameters
    ----------
    path : str or path
        A kernel module, or the folder of a fastact whose module for AVX-512 is taken.

    Returns
    -------
    dict
        A number for each kernel of the table, such as ``"sigmoid_f32"``, but for those that the
        module lacks, and those for which it cannot be told.

    Raises
    ------
    UnknownError
        If there is no such module, or no objdump that reads it.
    """
    path = find(path, "avx512") if Path(path).is_dir() else path
    return {
        kernel: len(loop.body) / loop.elements * 64 / size_of(kernel)
        for kernel, loop in loops(path).items()
        if isinstance(loop, Loop)
    }


# ------------------------------------------------------------------------ the hot loop


class Loop(NamedTuple):
    """A loop without branches: one pass, and how many elements that is.

    `rare` says whether it can be left for a path out of line, which is not counted.
    """

    body: list[Instruction]
    elements: int
    rare: bool = False


_REGISTER = re.compile(r"%?(?:[er]?([abcd])[xlh]|[er]?([sd]i|[bs]p)l?|r(\d+)[dwb]?|[wx](\d+))")
_NUMBER = re.compile(r"[$#](-?(?:0x[0-9a-f]+|\d+))")
_ADDRESS = re.compile(r"(-?0x[0-9a-f]+)?\((%\w+)?(?:,(%\w+),([1248]))?\)")
_ARM_ADDRESS = re.compile(r"\[(\w+)(?:, (?:(#-?\w+)|(\w+)(?:, \w+(?: #(\d))?)?))?\](!?)")
_WRITES_NONE = re.compile(r"j|cmp|test|bt$|nop|push|cmn|tst|b$|b\.|[ct]bn?z|st[pru1-4]|prf|pref")
_USES_NO_MEMORY = re.compile(r"lea|nop|prf|pref")


def _register(operand):
    """A register by a name that all its parts share: eax and al are parts of rax, w0 is of x0."""
    found = _REGISTER.fullmatch(operand or "")
    return found and next(filter(None, found.groups()))


class _Pass:
    """Address arithmetic of a pass: registers as those at its start, or None, and a distance."""

    def __init__(self, body):
        self.values = {}
        self.addresses = []  # each a sum of registers, times their scales
        for instruction in body:
            self.follow(*instruction[1:3])

    def value(self, register, distance=0):
        name = _register(register)
        origin, before = self.values.get(name, (name, 0))
        return origin, before + distance

    def follow(self, name, operands):
        """Note the addresses that an instruction uses, and the registers that it writes."""
        moved = {}
        for operand in operands:
            found = _ADDRESS.fullmatch(operand) or _ARM_ADDRESS.fullmatch(operand)
            if found and found[2] != "%rip" and not _USES_NO_MEMORY.match(name):
                arm = operand.startswith("[")
                base, index = (found[1], found[3]) if arm else (found[2], found[3])
                scale = 1 << int(found[4] or 0) if arm else int(found[4] or 1)
                terms = [(self.value(base), 1)] if base else []
                self.addresses.append(terms + ([(self.value(index), scale)] if index else []))
                if arm and (found[5] or operand != operands[-1]):  # [x0, #16]! and [x0], #16
                    moved[base] = found[2] if found[5] else operands[-1]
        if operands and not _WRITES_NONE.match(name):
            x86 = any(re.match(r"[%$(]|-?0x.*\(", operand) for operand in operands)
            written = operands[-1:] if x86 else operands[: 2 if name.startswith("ldp") else 1]
            value = self.result(name, operands[:-1] if x86 else operands[1:], *written[-1:])
            self.values |= {_register(register): value for register in written}
        for register, distance in moved.items():
            number = _NUMBER.fullmatch(distance)
            value = self.value(register, int(number[1], 0)) if number else (None, 0)
            self.values[_register(register)] = value

    def result(self, name, sources, written):
        """What an instruction writes, if it adds a number to a register or copies one."""
        numbers = [int(found[1], 0) for found in map(_NUMBER.fullmatch, sources) if found]
        if re.match(r"adds?$|subs?$", name) and len(numbers) == 1 and len(sources) < 3:
            number = numbers[0] - (numbers[0] >> 63 << 64)  # objdump writes -1 without a sign
            source = sources[0] if len(sources) == 2 else written
            return self.value(source, number if name.startswith("add") else -number)
        if name == "lea" and (found := _ADDRESS.fullmatch(sources[0])) and not found[3]:
            return self.value(found[2], int(found[1] or "0", 0))
        if name == "mov" and len(sources) == 1 and _register(sources[0]):
            return self.value(sources[0])
        return ("the module" if name == "adrp" else None), 0

    def step(self, origin):
        """By how much a register moves in one pass."""
        end, distance = self.values.get(origin, (origin, 0))
        if origin is None or end != origin:
            raise UnknownError("its hot loop moves by a step that is no number in the code")
        return distance

    def steps(self):
        """By how much the addresses move in one pass, those that stay left out."""
        sums = (
            sum(self.step(origin) * scale for (origin, _), scale in terms)
            for terms in self.addresses
        )
        return {abs(step) for step in sums} - {0}


def _elements(body, size):
    """The elements of one pass of a loop: how far it moves in memory, by the size of an element.

    A conversion moves faster on one side. Elements of `size` bytes are on the slower one.
    """
    steps = _Pass(body).steps()
    if not steps or min(steps) % size:
        raise UnknownError("its hot loop does not move over whole elements")
    if any(step % min(steps) for step in steps):
        raise UnknownError("its hot loop moves over its arrays at different speeds")
    return min(steps) // size


def _width(instruction):
    """The bytes of the vectors that an instruction computes with; 0 for single numbers."""
    said = " ".join(instruction.operands)
    if "%zmm" in said or "%ymm" in said:
        return 64 if "%zmm" in said else 32
    packed = "%xmm" in said and re.match(r"v?p|v?mov(?!s[sd])|.*p[sd]", instruction.name)
    return 16 if packed or re.search(r"\bv\d+\.|\bq\d+", said) else 0


def _leaves(instruction):
    """Whether what follows an instruction is not what runs after it."""
    return re.match(r"jmp|ret|b$|br$|ud2|hlt", instruction.name) is not None


def _path(code, places, first, last):
    """The instructions of a pass, from the first one to the jump back; None if there is none.

    A jump behind the last instruction leaves the loop or takes a rare path: compilers put what they
    think rare out of line. A jump within the loop makes two paths, and nobody can tell which one is
    taken.
    """
    body, i = [], first
    while i <= last:
        instruction = code[i]
        body.append(instruction)
        if instruction.target == code[first].address:
            if any(jump.target == instruction.target for jump in code[i + 1 : last + 1]):
                raise UnknownError("its hot loop has several paths")
            return body
        if re.match("call|bl$|blr$", instruction.name):
            raise UnknownError("its hot loop calls a function")
        j = places.get(instruction.target, -1)
        if i < j <= last and not _leaves(instruction):
            raise UnknownError("its hot loop has several paths")
        if not i < j <= last and _leaves(instruction):
            return None
        i = j if _leaves(instruction) else i + 1
    return None


def hot_loop(code, size):
    """Find the loop of a function in which it spends its time on long arrays.

    It is the one with the most vector instructions of those that have no other loop inside.

    Parameters
    ----------
    code : list of Instruction
        A function.
    size : int
        The bytes of an element.

    Returns
    -------
    Loop

    Raises
    ------
    UnknownError
        If there is none, or if it cannot be told which one it is, or what one pass does.
    """
    places = {instruction.address: i for i, instruction in enumerate(code)}
    jumps = [(places.get(jump.target, len(code)), i) for i, jump in enumerate(code)]
    back = {(first, last) for first, last in jumps if first <= last}
    for first, last in sorted(back):
        # Two jumps back to one place are one loop, unless what follows the first one leaves it.
        if any(a == first and b > last and not any(map(_leaves, code[last:b])) for a, b in back):
            back.remove((first, last))
    inner = [
        (first, last)
        for first, last in back
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in back)
    ]
    widths = [_width(instruction) for instruction in code]
    widest = max(widths, default=0)  # what is left over may take shorter vectors
    weights = {
        (first, last): (widths[first : last + 1].count(widest or -1), last - first)
        for first, last in inner
    }
    hottest, others = None, 0
    for first, last in sorted(inner, key=weights.__getitem__, reverse=True):
        body, vectors = None, weights[first, last][0]
        try:
            body = _path(code, places, first, last)
            if body is None:
                continue
            rare = any(first < places.get(jump.target, -1) <= last for jump in code[last + 1 :])
            loop = Loop(body, _elements(body, size), rare)
        except UnknownError as reason:
            loop = reason
        if hottest is None:
            hottest, most = loop, vectors
        # What is left over is computed number by number.
        elif body and (isinstance(loop, UnknownError) or loop.elements * size >= 16):
            others = max(others, vectors)
    if hottest is None:
        raise UnknownError("it has no loop of its own")
    if isinstance(hottest, UnknownError):
        raise hottest
    if others * 16 > most:
        raise UnknownError("several loops share its work, and nobody can tell how")
    return hottest


if __name__ == "__main__":
    # A module of its own, so that what only counts loads this file alone.
    from processors import main

    main()
