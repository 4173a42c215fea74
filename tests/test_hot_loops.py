"""asv_bench/hot_loops.py: which loop is the hot one, how far it moves, and what is not told."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from test_vectorized import EVERYWHERE, EXCEPTIONS

import fastact
from fastact._core import ufuncs as core
from fastact._core.operations import OPERATIONS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "asv_bench"
HERE = Path(fastact.__file__).parent
# Ends of the names of kernels.
FORMS = ("", "_shared")
KINDS = ("f32", "f64", "f16", "bf16")


@pytest.fixture
def hot_loops(monkeypatch):
    if not FOLDER.exists():
        pytest.skip("no asv_bench beside the tests: not the whole source tree")
    monkeypatch.syspath_prepend(FOLDER)
    import hot_loops

    return hot_loops


@pytest.fixture
def processors(hot_loops):
    import processors

    return processors


def listing(text, start=0x1000):
    """A function as objdump writes it, from lines of code with labels."""
    lines = [line.split(";")[0].strip() for line in text.strip().splitlines()]
    places, address = {}, start
    for line in lines:
        if line.endswith(":"):
            places[line[:-1]] = address
        else:
            address += 4
    written, address = [f"{start:016x} <__pyx_f_7fastact_5_core_3odd_odd_f32>:"], start
    for line in lines:
        if not line.endswith(":"):
            name, _, operands = line.partition(" ")
            operands = re.sub(r"\b[A-Z]+\b", lambda to: f"{places[to[0]]:x} <odd+0x4>", operands)
            written.append(f"    {address:x}:\t{name}    {operands}".rstrip())
            address += 4
    return "\n".join(written)


# Two vectors of 8 floats a pass; a path out of line; what is left over, number by number.
UNROLLED = """
    xor %eax,%eax
    vbroadcastss 0x2cdfe(%rip),%ymm6        # 97ec0 <__pyx_k_odd+0x318>
HOT:
    vmovups (%rdi,%rax,1),%ymm0
    vmovups 0x20(%rdi,%rax,1),%ymm1
    vptest %ymm0,%ymm1
    jne RARE
BACK:
    vmulps %ymm6,%ymm0,%ymm0
    vmulps 0x0(%rip),%ymm1,%ymm1        # 97ec0 <__pyx_k_odd+0x318>
    vmovups %ymm0,(%rsi,%rax,1)
    vmovups %ymm1,0x20(%rsi,%rax,1)
    sub $0xffffffffffffffc0,%rax
    cmp %rax,%rdx
    jne HOT
LEFT:
    vmovss (%rdi,%rax,1),%xmm0
    vcomiss %xmm0,%xmm6
    jbe ZERO
    vmovss %xmm0,(%rsi,%rax,1)
ZERO:
    add $0x4,%rax
    cmp %rax,%rcx
    jne LEFT
    ret
RARE:
    vaddps %ymm0,%ymm0,%ymm0
    jmp BACK
"""
# A pointer that lea copies, and one that moves by itself.
POINTERS = """
HOT:
    movups (%rdi),%xmm0
    lea 0x10(%rsi),%rcx
    mov 0x8(%rsp),%r8
    addps %xmm0,%xmm0
    add $0x10,%rdi
    movups %xmm0,-0x10(%rcx)
    mov %rcx,%rsi
    dec %edx
    jne HOT
    ret
"""
# 64-bit Arm: an address with a register, one that moves with the access, and a constant.
ARM = """
    mov x3, #0x0                  	// #0
HOT:
    ldr q0, [x0, x3]
    adrp x6, HOT
    ldr q2, [x6, #304]
    fmul v0.4s, v0.4s, v2.4s
    add x3, x3, #0x10
    str q0, [x1], #16
    cmp x2, x3
    b.ne HOT  // b.any
    ret
"""
BEHIND = ARM.replace("[x0, x3]", "[x0], #16")
BEFORE = BEHIND.replace("], #16", ", #16]!")
TOLD = [
    (UNROLLED, 4, 11, 16, True),
    (UNROLLED, 2, 11, 32, True),
    (POINTERS, 4, 9, 4, False),
    (ARM, 4, 8, 4, False),
    (ARM, 8, 8, 2, False),
    (BEHIND, 4, 8, 4, False),
    (BEFORE, 4, 8, 4, False),
]
FORK = UNROLLED.replace("jne RARE", "jne BACK")
CONTINUE = UNROLLED.replace("jne RARE", "jne HOT")
CALL = UNROLLED.replace("vmulps %ymm6,%ymm0,%ymm0", "call LEFT")
STEP = UNROLLED.replace("sub $0xffffffffffffffc0,%rax", "add %r8,%rax")
LOADED = UNROLLED.replace("sub $0xffffffffffffffc0,%rax", "mov 0x8(%rsp),%rax")
SHIFTED = ARM.replace("#0x10", "#0x1, lsl #12")
SPEEDS = POINTERS.replace("add $0x10,%rdi", "add $0x18,%rdi")
TWICE = POINTERS.replace("ret", "") + POINTERS.replace("HOT", "AGAIN").replace("lea", "nop\nlea")
UNTOLD = [
    (FORK, 4, "its hot loop has several paths"),
    (CONTINUE, 4, "its hot loop has several paths"),
    (CALL, 4, "its hot loop calls a function"),
    (STEP, 4, "moves by a step that is no number in the code"),
    (LOADED, 4, "moves by a step that is no number in the code"),
    (SHIFTED, 4, "moves by a step that is no number in the code"),
    (SPEEDS, 4, "moves over its arrays at different speeds"),
    (POINTERS, 32, "does not move over whole elements"),
    (TWICE, 4, "several loops share its work"),
    ("jmp OUT\nOUT:\nret", 4, "it has no loop of its own"),
]


@pytest.mark.parametrize(("text", "size", "instructions", "elements", "rare"), TOLD)
def test_loop(hot_loops, text, size, instructions, elements, rare):
    loop = hot_loops.hot_loop(hot_loops.parse(listing(text), {"odd_f32"})["odd_f32"], size)
    assert (len(loop.body), loop.elements, loop.rare) == (instructions, elements, rare)


@pytest.mark.parametrize(("text", "size", "reason"), UNTOLD)
def test_what_is_not_told(hot_loops, text, size, reason):
    with pytest.raises(hot_loops.UnknownError, match=reason):
        hot_loops.hot_loop(hot_loops.parse(listing(text), {"odd_f32"})["odd_f32"], size)


def test_no_module(hot_loops, tmp_path, monkeypatch):
    (tmp_path / "_avx512.x.so").write_bytes(b"\x7fELF" + bytes(14) + bytes([183, 0]))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(hot_loops.UnknownError, match="objdump: install binutils"):
        hot_loops.instructions(tmp_path)
    with pytest.raises(hot_loops.UnknownError, match="has no kernels for avx2"):
        hot_loops.find(tmp_path, "avx2")
    for path in (tmp_path / "none", __file__):
        with pytest.raises(hot_loops.UnknownError, match="is no module for Linux"):
            hot_loops.instructions(path)


@pytest.mark.parametrize(
    "symbol",
    [
        "__pyx_f_7sigmoid_sigmoid_f64",
        "__pyx_f_7fastact_5_core_7kernels_7_avx512_sigmoid_f64",
        "__pyx_fuse_1__pyx_f_7fastact_8_kernels_6avx512_sigmoid",
    ],
)
def test_functions_of_the_past(hot_loops, symbol):
    text = listing(UNROLLED).replace("__pyx_f_7fastact_5_core_3odd_odd_f32", symbol)
    assert len(hot_loops.parse(text, hot_loops.kernels()["sigmoid_f64"])) == 1
    assert not hot_loops.parse(text, hot_loops.kernels()["log_sigmoid_f64"])
    assert not hot_loops.parse(text, hot_loops.kernels()["sigmoid_f32"])


@pytest.mark.parametrize("place", ["_core/kernels/_avx512.x.so", "_kernels/avx512.x.so"])
def test_instructions(hot_loops, tmp_path, monkeypatch, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.touch()

    def loops(module):
        assert module == path
        loop = hot_loops.hot_loop(hot_loops.parse(listing(UNROLLED), {"odd_f32"})["odd_f32"], 4)
        return {"sigmoid_f32": loop, "relu_u8": hot_loops.UnknownError("it has no loop")}

    monkeypatch.setattr(hot_loops, "loops", loops)
    # As many as of a pass, which is as long.
    assert hot_loops.instructions(tmp_path) == {"sigmoid_f32": 11}


# ----------------------------------------------------------------------- what is built here

BUILT = [
    name
    for name in core.supported
    if sys.platform == "linux" and (ROOT / "build" / "vectorized" / name).is_dir()
]
STORE = re.compile(r"v?movn?[aut]p[sd]|v?movdq[au]\d*|v?mov[lh]p[sd]|v?movs[sd]|movq|mov[lq]?")


def stored(body):
    """The bytes that a loop for x86-64 stores, other than on the stack."""
    total = 0
    for instruction in body:
        to = instruction.operands[-1] if instruction.operands else ""
        if "(" in to and "%rsp" not in to and STORE.fullmatch(instruction.name):
            register = instruction.operands[0][1]
            bytes_of = {"z": 64, "y": 32, "x": 16}.get(register, 8)
            scalar = {"d": 8, "s": 4}.get(instruction.name[-1])
            if re.fullmatch("v?mov([lh]p[sd]|s[sd])", instruction.name):
                bytes_of = 8 if re.search("[lh]p", instruction.name) else scalar
            total += bytes_of
    return total


@pytest.mark.compiler
@pytest.mark.skipif(not BUILT, reason="not built here by gcc")
@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump")
@pytest.mark.parametrize("name", BUILT)
def test_kernels(hot_loops, name):
    path = hot_loops.find(HERE, name)
    if hot_loops.machine_of(path) != "x86_64":
        pytest.skip("reads the stores of x86-64")
    found = hot_loops.loops(path)
    untold, wrong = set(), []
    for operation in OPERATIONS:
        for kind in ("f32", "f64"):
            kernel = f"{operation.name}_{kind}"
            loop = found[kernel]
            if isinstance(loop, hot_loops.UnknownError):
                untold.add(kernel)
            # As many bytes as the elements that the loop is said to have.
            elif stored(loop.body) != loop.elements * int(kind[1:]) // 8:
                wrong.append(f"{kernel}: {loop.elements} elements, {stored(loop.body)} bytes")
    assert not wrong, "\n".join(wrong)
    assert untold <= EXCEPTIONS.get(name, {}).keys()
    assert all(isinstance(found[kernel], hot_loops.UnknownError) for kernel in EVERYWHERE)


@pytest.mark.compiler
@pytest.mark.skipif(not BUILT, reason="not built here by gcc")
@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump")
@pytest.mark.parametrize("set_name", ["avx2", "avx512"])
def test_short_formulas_are_stored_in_order(hot_loops, set_name):
    if set_name not in BUILT:
        pytest.skip("not built here")
    found = hot_loops.loops(hot_loops.find(HERE, set_name))
    short = [o.name for o in OPERATIONS if not o.costly and not o.output_of]
    assert {"relu", "leaky_relu_backward"} <= {*short}
    disorder = {}
    for kernel in (f"{name}{form}_{kind}" for name in short for form in FORMS for kind in KINDS):
        if isinstance(loop := found.get(kernel), hot_loops.Loop):
            stores = [i.operands[-1] for i in loop.body if i.name.startswith("vmov")]
            places = [int(to.partition("(")[0] or "0", 16) for to in stores if "(" in to]
            assert places, kernel
            if places != sorted(places):
                disorder[kernel] = places
    assert not disorder


# ------------------------------------------------------------------------------- llvm-mca


def said(ports, pressure, code=("addps", "divps"), cycles=100, operations=20):
    """What llvm-mca says of ten passes: for how long each instruction keeps each port busy."""
    uses = [
        {"InstructionIndex": i, "ResourceIndex": port, "ResourceUsage": busy}
        for i, row in enumerate(
            (*pressure, [sum(column) for column in zip(*pressure, strict=True)])
        )
        for port, busy in enumerate(row)
    ]
    return ports, {
        "Instructions": [f"{name}\t%xmm1, %xmm2" for name in code],
        "InstructionInfoView": {"InstructionList": [{"NumMicroOpcodes": 1, "RThroughput": 1}] * 2},
        "ResourcePressureView": {"ResourcePressureInfo": uses},
        "SummaryView": {"TotalCycles": cycles, "TotaluOps": operations, "DispatchWidth": 4},
    }


@pytest.mark.parametrize(
    ("pressure", "changes", "bottleneck"),
    [
        ([(1, 0), (0, 9)], {}, "divider"),
        ([(9, 0), (0, 3)], {}, "Port0"),
        ([(1, 7), (0, 2)], {}, "Port1"),
        ([(1, 0), (0, 3)], {}, "latency"),
        ([(1, 0), (0, 9)], {"operations": 390}, "issue"),
        ([(1, 0), (0, 9)], {"code": ("addps", "mulps")}, "Port1"),
    ],
)
def test_bottleneck(processors, monkeypatch, pressure, changes, bottleneck):
    monkeypatch.setattr(
        processors, "run", lambda *_: said(["XPort0", "XPort1"], pressure, **changes)
    )
    processor = processors.Processor("X", "x", "X")
    body = [processors.hot_loops.Instruction(0, "addps", ())] * 1000
    assert processors.simulate("llvm-mca", processor, "x86_64", body) == (10, bottleneck)


def test_models_that_are_not_true(processors, monkeypatch):
    # A division that takes no longer than an addition; ports of another processor; a slow FMA.
    monkeypatch.setattr(processors, "run", lambda *_: said(["YPort0", "YPort1"], [(1, 0), (0, 1)]))
    body = [processors.hot_loops.Instruction(0, "addps", ())]
    other, own = (processors.Processor(name, "y", name) for name in "XY")
    with pytest.raises(processors.UnknownError, match="keeps no divider busy"):
        processors.simulate("llvm-mca", own, "x86_64", body)
    with pytest.raises(processors.UnknownError, match="no model of it, and takes another one's"):
        processors.doubt("llvm-mca", other, "x86_64", "avx2")
    assert "every 1 cycles, not every 0.5" in processors.doubt("llvm-mca", own, "x86_64", "avx512")
    assert processors.doubt("llvm-mca", own, "x86_64", "avx2") is None


def test_sentences(processors, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["hot_loops.py", "--set", "arm64", "--mca", "no-mca", "--cc", "no-cc"]
    )
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    processors.main()
    assert capsys.readouterr().out == (
        "There is no no-mca, so there are no cycles: install llvm.\n\narm64\n"
        "arm64: there is no no-cc, which compiles for 64-bit Arm.\n"
    )


def test_table(processors, hot_loops, monkeypatch):
    loop = hot_loops.hot_loop(hot_loops.parse(listing(UNROLLED), {"odd_f32"})["odd_f32"], 4)
    found = {"relu_f32": loop, "relu_u8": hot_loops.UnknownError("it has no loop of its own")}
    monkeypatch.setattr(hot_loops, "machine_of", lambda _: "x86_64")
    monkeypatch.setattr(hot_loops, "loops", lambda _: found)
    assert processors.table("module", "avx2", [], None) == [
        "kernel    a vector  an element",
        "relu_f32  5.5       0.688",
        "relu_f32: what it does out of line is not counted.",
        "relu_u8: it has no loop of its own.",
    ]
    monkeypatch.setattr(processors, "doubt", lambda *_: None)
    monkeypatch.setattr(processors, "simulate", lambda *_: (4, "latency"))
    header, row, *_ = processors.table("module", "avx512", ["*_f32"], "llvm-mca")
    assert header.endswith("  Sapphire Rapids")
    assert row.endswith("0.250 latency")
    with pytest.raises(hot_loops.UnknownError, match="no kernel fits tanh; there is relu_f32"):
        processors.table("module", "avx2", ["tanh"], None)


@pytest.mark.skipif(not shutil.which("llvm-mca"), reason="no llvm-mca")
def test_llvm_mca(processors):
    body = processors.hot_loops.parse(listing(POINTERS), {"odd_f32"})["odd_f32"][:-1]
    skylake = next(one for one in processors.PROCESSORS if one.ports == "SKX")
    assert processors.doubt("llvm-mca", skylake, "x86_64", "avx512") is None
    cycles, bottleneck = processors.simulate("llvm-mca", skylake, "x86_64", body)
    # Nine instructions, of which it starts six in a cycle.
    assert 1.5 <= cycles <= 3
    assert bottleneck == "issue"
    with pytest.raises(processors.UnknownError, match="does not know it"):
        processors.simulate("llvm-mca", processors.Processor("Z", "zilog", "Z"), "x86_64", body)
    with pytest.raises(processors.UnknownError, match=r"fails: .*error"):
        processors.simulate("llvm-mca", skylake, "x86_64", [body[0]._replace(name="odd")])
