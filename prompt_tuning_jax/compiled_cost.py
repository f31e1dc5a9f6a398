"""What a compiled program does, read off its text: matrix products, traffic of memory, collectives.

XLA's own `cost_analysis` counts a loop's body once, however often it runs; here it counts as often
as it does. Everything is of one device, as the partitioned program has it, with what the compiler
added (recomputation, copies) and left out.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
# they move nothing: names of values, or the end of what began elsewhere
_FREE = {
    *("after-all", "bitcast", "constant", "get-tuple-element", "iota", "opt-barrier", "parameter"),
    *("partition-id", "replica-id", "tuple"),
}
# the same numbers in another order or of another type
_FORMS = {"bitcast", "convert", "copy", "reshape", "transpose"}
_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^{}]*\})?")
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*)$")


@dataclasses.dataclass(frozen=True)
class Array:
    """A value's type. hbm: it lies in main memory, not on the chip (TPU's layouts say which)."""

    bits: int
    shape: tuple[int, ...]
    hbm: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def width(self) -> float:
        return self.bits / 8

    @property
    def bytes(self) -> int:
        return math.ceil(self.size * self.width)


@dataclasses.dataclass(frozen=True)
class Instruction:
    name: str
    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool

    def attribute(self, pattern: str) -> str | None:
        found = re.search(pattern, self.attributes)
        return found[1] if found else None


@dataclasses.dataclass(frozen=True)
class Moved:
    """Collectives of a kind: how many run, the bytes of their results on a device, and those that
    it sends where they go round in a ring."""

    count: float = 0
    bytes: float = 0
    sent: float = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(self.count + other.count, self.bytes + other.bytes, self.sent + other.sent)

    def times(self, n: float) -> Moved:
        return Moved(self.count * n, self.bytes * n, self.sent * n)


@dataclasses.dataclass(frozen=True)
class Work:
    """flops: of matrix products, 2 a multiply-add; hbm_bytes: read and written in main memory;
    collectives {kind: Moved}."""

    flops: float = 0
    hbm_bytes: float = 0
    collectives: dict[str, Moved] = dataclasses.field(default_factory=dict)

    def __add__(self, other: Work) -> Work:
        both = {*self.collectives, *other.collectives}
        return Work(
            self.flops + other.flops,
            self.hbm_bytes + other.hbm_bytes,
            {
                kind: self.collectives.get(kind, Moved()) + other.collectives.get(kind, Moved())
                for kind in sorted(both)
            },
        )

    def times(self, n: float) -> Work:
        return Work(
            self.flops * n,
            self.hbm_bytes * n,
            {kind: moved.times(n) for kind, moved in self.collectives.items()},
        )


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program's work. open_loop: that of one round of the loops which end when their
    data say so (decoding's), which `work` has `rounds` times."""

    work: Work
    open_loop: Work


def read(text: str, devices: int, rounds: int = 1) -> Program:
    """The work of a compiled program from its text (`jax.stages.Compiled.as_text`).

    devices: how many it runs on; rounds: how often a loop runs whose condition is no plain counter.
    """
    reader = _Reader(text, devices, rounds)
    return Program(reader.of(reader.entry), reader.open_loop)


class _Reader:
    def __init__(self, text: str, devices: int, rounds: int):
        self.devices, self.rounds = devices, rounds
        self.computations: dict[str, list[Instruction]] = {}
        self.entry, self.open_loop = "", Work()
        inside = ""
        for line in text.splitlines():
            if not line.startswith(" ") and (head := _HEAD.match(line)):
                inside = head[1]
                self.computations[inside] = []
                if line.startswith("ENTRY"):
                    self.entry = inside
            elif inside and (match := _LINE.match(line)):
                self.computations[inside].append(_instruction(*match.groups()))
        self.of = functools.cache(self._of)

    def _of(self, name: str) -> Work:
        """The work of a computation that runs once, its values in memory."""
        known = {i.name: i for i in self.computations[name]}
        total = Work()
        for i in known.values():
            if i.opcode == "while":
                total += self._loop(i)
            elif i.opcode == "conditional":
                branches = re.search(r"branch_computations=\{([^}]*)\}", i.attributes)
                names = re.findall(r"(?:true|false)_computation=%?([\w.-]+)", i.attributes)
                names += re.findall(r"%([\w.-]+)", branches[1]) if branches else []
                total += max((self.of(n) for n in names), key=lambda work: work.hbm_bytes)
            elif i.opcode in ("call", "async-start"):
                total += self.of(i.attribute(r"(?:to_apply|calls)=%?([\w.-]+)"))
            elif i.opcode.endswith(("-done", "-update")):
                pass
            elif i.opcode == "fusion":
                called = i.attribute(r"calls=%?([\w.-]+)") or ""
                inside = self._inside(called)
                scattered = inside.collectives and called.startswith("all-reduce-scatter")
                if scattered:  # TPU's name for it: an all-reduce of which each keeps its piece
                    inside = Work(inside.flops, 0, {"reduce-scatter": self._scattered(i, called)})
                total += inside + Work(hbm_bytes=self._fusion_bytes(i, called, known))
            else:
                total += self._plain(i, known) + Work(hbm_bytes=_bytes(i, known))
        return total

    def _loop(self, i: Instruction) -> Work:
        body = i.attribute(r"body=%?([\w.-]+)") or ""
        condition = i.attribute(r"condition=%?([\w.-]+)") or ""
        trips = i.attribute(r'known_trip_count":\{"n":"(\d+)"') or self._counted(condition)
        once = self.of(body) + self.of(condition)
        if trips is None:
            self.open_loop += once
            trips = self.rounds
        return once.times(int(trips))

    def _counted(self, condition: str) -> int | None:
        """How often a loop runs whose condition is counter < constant; counters begin at 0."""
        known = {i.name: i for i in self.computations[condition]}
        root = next(i for i in known.values() if i.root)
        # of a fusion counter and constant are the operands
        called = self.computations.get(root.attribute(r"calls=%?([\w.-]+)") or "", [root])
        compare = next(i for i in called if i.root)
        constants = [known[name] for name in root.operands if known[name].opcode == "constant"]
        if compare.opcode != "compare" or "direction=LT" not in compare.attributes:
            return None
        return int(constants[0].attributes) if len(constants) == 1 else None

    def _inside(self, fusion: str) -> Work:
        """Products and collectives of a fusion; its values lie nowhere."""
        known = {i.name: i for i in self.computations[fusion]}
        total = Work()
        for i in known.values():
            if i.opcode == "fusion":
                total += self._inside(i.attribute(r"calls=%?([\w.-]+)") or "")
            else:
                total += self._plain(i, known)
        return total

    def _plain(self, i: Instruction, known: dict[str, Instruction]) -> Work:
        kind = i.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            return Work(collectives={kind: self._moved(i, kind, known)})
        if i.opcode == "dot":
            return Work(flops=_dot_flops(i, known))
        if i.opcode == "convolution":
            return Work(flops=_convolution_flops(i, known))
        return Work()

    def _moved(self, i: Instruction, kind: str, known: dict[str, Instruction]) -> Moved:
        given = sum(array.bytes for name in i.operands for array in known[name].results)
        n = self._group(i)
        made = {"all-gather": given * n, "reduce-scatter": given / n}.get(kind, given)
        return Moved(1, made, _sent(kind, made, n))

    def _scattered(self, i: Instruction, called: str) -> Moved:
        made = sum(array.bytes for array in i.results)
        reduce = next(i for i in self.computations[called] if i.opcode == "all-reduce")
        return Moved(1, made, _sent("reduce-scatter", made, self._group(reduce)))

    def _group(self, i: Instruction) -> int:
        """How many devices take part in a collective."""
        listed = i.attribute(r"replica_groups=\{\{([\d,]*)\}")
        if listed is not None:
            return listed.count(",") + 1
        iota = i.attribute(r"replica_groups=\[\d+,(\d+)\]")
        if iota is not None:
            return int(iota)
        axes = re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", i.attributes)
        if axes:
            sizes = dict(re.findall(r"'([^']+)'=(\d+)", axes[1]))
            return math.prod(int(sizes[name]) for name in re.findall(r"'([^']+)'", axes[2]))
        return self.devices

    def _fusion_bytes(self, i: Instruction, called: str, known: dict[str, Instruction]) -> float:
        """What a fusion reads and writes: of a value that is only sliced the slices, of one that is
        updated in place the update."""
        named = {inner.name: inner for inner in self.computations[called]}
        total = 0.0
        for at, name in enumerate(i.operands):
            source = known[name].results
            if len(source) == 1 and source[0].hbm:
                numbers, whole = self._read(called, at)
                total += (
                    source[0].bytes if whole else min(numbers, source[0].size) * source[0].width
                )
        for array, made in zip(i.results, _roots(named), strict=False):
            if array.hbm:
                updated = made.opcode == "dynamic-update-slice"
                total += named[made.operands[1]].results[0].bytes if updated else array.bytes
        return total

    def _read(self, computation: str, at: int) -> tuple[float, bool]:
        """How many numbers a fused computation reads of its parameter number `at` in slices, and
        whether it gives the parameter itself, in another form."""
        numbers, names, root = 0.0, set(), ""
        for i in self.computations[computation]:  # in the order in which they are computed
            if i.opcode == "parameter" and int(i.attributes) == at:
                names.add(i.name)
            for position, name in enumerate(i.operands):
                if name not in names:
                    continue
                if i.opcode in _FORMS:
                    names.add(i.name)
                elif i.opcode == "fusion":
                    inner = self._read(i.attribute(r"calls=%?([\w.-]+)") or "", position)
                    numbers += inner[0]
                    if inner[1]:
                        names.add(i.name)
                elif position == 0 and i.opcode in ("dynamic-slice", "slice", "gather"):
                    numbers += i.results[0].size
                elif position or i.opcode != "dynamic-update-slice":
                    numbers = math.inf
            root = i.name if i.root else root
        return numbers, root in names


def _roots(named: dict[str, Instruction]) -> Iterator[Instruction]:
    """What makes each result of a fused computation, bitcasts taken off."""
    root = next(i for i in named.values() if i.root)
    for name in root.operands if root.opcode == "tuple" else (root.name,):
        made = named[name]
        while made.opcode == "bitcast":
            made = named[made.operands[0]]
        yield made


def _sent(kind: str, made: float, n: int) -> float:
    """Bytes that a device sends for a collective of n that gives it `made` bytes, round a ring."""
    if n == 1:
        return 0.0
    share = (n - 1) / n
    return {"all-reduce": 2 * share, "reduce-scatter": n - 1.0, "collective-permute": 1.0}.get(
        kind, share
    ) * made


def _bytes(i: Instruction, known: dict[str, Instruction]) -> float:
    """Bytes that an instruction outside of fusions reads and writes in main memory."""
    if i.opcode in _FREE:
        return 0
    if i.opcode in ("dynamic-update-slice", "scatter"):
        changed = known[i.operands[-1 if i.opcode == "scatter" else 1]].results[0]
        return 2 * changed.bytes if i.results[0].hbm else 0
    written = sum(array.bytes for array in i.results if array.hbm)
    if i.opcode.endswith("-start"):  # its results: what it makes, what it was given, a context
        return sum(array.bytes for array in i.results[:2] if array.hbm)
    if i.opcode in ("dynamic-slice", "slice", "gather"):
        source = known[i.operands[0]].results[0]
        return written + (i.results[0].bytes if source.hbm else 0)
    read = [array for name in i.operands for array in known[name].results if array.hbm]
    return written + sum(array.bytes for array in read)


def _dot_flops(i: Instruction, known: dict[str, Instruction]) -> float:
    shape = known[i.operands[0]].results[0].shape
    summed = re.findall(r"\d+", i.attribute(r"lhs_contracting_dims=\{([\d,]*)\}") or "")
    return 2.0 * math.prod(i.results[0].shape) * math.prod(shape[int(d)] for d in summed)


def _convolution_flops(i: Instruction, known: dict[str, Instruction]) -> float:
    """A product of matrices is one on TPUs, its batch dimensions made spatial: only the taps that
    fall on a number of the input count."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.attributes)
    assert labels is not None
    inputs, kernels, outputs = labels.groups()
    image, kernel = (known[name].results[0].shape for name in i.operands)
    out = i.results[0].shape
    window = {
        key: value.split("x")
        for key, value in re.findall(r"(\w+)=([\dx_-]+)", i.attribute(r"window=\{([^}]*)\}") or "")
    }
    taps = 1
    for d in (label for label in kernels if label.isdigit()):
        n, size, made = image[inputs.index(d)], kernel[kernels.index(d)], out[outputs.index(d)]
        stride, spread, apart = (
            int(window[key][int(d)]) if key in window else 1
            for key in ("stride", "lhs_dilate", "rhs_dilate")
        )
        low = int(window["pad"][int(d)].split("_")[0]) if "pad" in window else 0
        places = (o * stride + t * apart - low for o in range(made) for t in range(size))
        taps *= sum(0 <= place <= (n - 1) * spread and place % spread == 0 for place in places)
    groups = int(i.attribute(r"batch_group_count=(\d+)") or 1)
    batch, features = out[outputs.index("b")], out[outputs.index("f")]
    return 2.0 * batch * features * kernel[kernels.index("i")] * taps / groups


# ---- reading ---------------------------------------------------------------------------------
def _instruction(root: str | None, name: str, rest: str) -> Instruction:
    rest = re.sub(r"/\*[^*]*\*/", "", rest)
    kind, rest = _split(rest) if rest.startswith("(") else rest.split(" ", 1)
    opcode, _, rest = rest.strip().partition("(")
    inner, attributes = _split("(" + rest)
    operands = re.findall(r"%([\w.-]+)", inner)
    if opcode in ("constant", "parameter"):
        attributes = inner[1:-1]
    return Instruction(
        name, opcode, tuple(_arrays(kind)), tuple(operands), attributes, root is not None
    )


def _split(text: str) -> tuple[str, str]:
    """What is in the brackets that `text` begins with, they included, and the rest."""
    depths = itertools.accumulate((c == "(") - (c == ")") for c in text)
    end = next(at for at, depth in enumerate(depths) if depth == 0) + 1
    return text[:end], text[end:]


def _arrays(kind: str) -> Iterator[Array]:
    for name, shape, layout in _ARRAY.findall(kind):
        bits = _BITS.get(name) if name in _BITS else int(re.search(r"\d+", name)[0])  # type: ignore[index]
        sizes = tuple(int(size) for size in shape.split(",") if size)
        yield Array(bits or 0, sizes, not re.search(r"S\([1-9]\d*\)", layout))
