"""Turn a linear layer and a target into the layout of its packed weights.

A weight matrix `[out, in]` is cut into blocks of `Layout.block` output features, a few vector
registers wide. Inside a block the inputs run slowest and the output features fastest, so one
vector load gives one input's weights of neighbouring outputs and no lane is ever summed across.
A GPU has no vector registers: its blocks are one output feature wide, which makes the layouts
row-major, `[out, in]`.

`float` layouts (activations stay float32), `nb` = block, `kp` = inputs padded:

    f32, f16        weight [blocks, in, nb]
    bf16            weight [blocks, in/2, 2*nb]       the pair (k, k+1) of one output side by side;
                                                      padded to 16 pairs where tiles multiply them
    q8, q6          weight [blocks, in, nb] int8      scale [blocks, nb] float32
    q8_g32          weight [blocks, groups, 32, nb]   scale [blocks, groups, nb] float16
    q4_s128         weight [blocks, groups, 16, nb]   byte i: input 2i low nibble, 2i+1 high nibble
                    scale [blocks, superblocks, nb] uint32

`dot` layouts (activations int8, multiplied four at a time): unsigned, w + 128, w + 32 or w + 8

    q8, q8_g32      weight [blocks, groups, 8, 4*nb] uint8    quad j: inputs 4j..4j+3 of each output
    q6              weight [blocks, groups, 6, 4*nb] uint8    the low four bits as of q4_s128, then
                                                              the high two: quad j (4 + j) at bit 2j
    q4_s128         weight [blocks, groups, 4, 4*nb] uint8    quad j low nibble, quad j + 4 high

The scales of a superblock are one word: its float16 scale in the low half, and above it the 4-bit
multipliers of its four groups, the first one lowest. Groups are padded to whole superblocks.

`tensor` layouts (a GPU's tensor cores), `[out, ...]`. The four lanes of a warp that share a row
each take 8 inputs of a group, and load 16 bytes: 1 group of 16-bit weights, 2 of 8-bit, 4 of 4-bit
ones. Groups are padded to whole loads, two at least, for f8 to whole runs of activations that
share a scale. `scale [out, groups]`, for q8 and f8 `[out, 1]`:

    f16, bf16       weight [out, 32*groups]
    q8, q8_g32, f8  weight [out, groups/2, 4 lanes, 2 groups, 8]
    q4_s128         weight [out, groups/4, 4 lanes, 4 groups, 4]  inputs 0 2, 4 6, 1 3, 5 7 of the 8
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingot.compile.schemes import WeightFormat
from ingot.targets.target import Target

Activations = Literal["float32", "float16", "bfloat16", "int8", "float8"]

# Of GPUs whose tensor cores multiply 8-bit floats (e4m3) as they are.
FLOAT8_FEATURE = "e4m3_products"
# Inputs that share one weight scale in the group formats.
GROUP = 32
# A superblock's word: its scale, above it the multipliers of its groups.
SCALE_BITS, MULTIPLIER_BITS = 16, 4
LARGEST_MULTIPLIER = (1 << MULTIPLIER_BITS) - 1
# Inputs that one int8 dot-product instruction sums into a lane.
QUAD = 4
# Pairs of bfloat16 that a matrix tile (AMX) is deep.
PAIRS_OF_TILE = 16
# Output vectors of one block: with two, each broadcast activation is used twice and enough
# registers are left for the rows of a prefill tile.
VECTORS = 2
# Output features apart that a lane of a GPU's matrix instructions sums up for the same row.
GATE_RUN = 8
# Outputs whose squares a GPU sums up for the norm that follows: those of one matrix instruction.
SQUARES_RUN = 16


@dataclass(frozen=True, slots=True)
class LinearSpec:
    """`y[n, out_features] = x[n, in_features] @ weight.T + bias`, the weight held in `format`.

    With a `gate`, the name of an activation, a run of `gate_run` gate rows comes before the run of
    up rows that it belongs to, in turn, and `out = act(y[gate]) * y[up]`.

    On a GPU's tensor cores it takes its share of the RMSNorms around it: one that `adds` gives
    y + residual, and the squares of each run of `SQUARES_RUN` outputs summed up; one with a
    `norm_eps` norms x by such sums, and the norm's weight, on the way.
    """

    out_features: int
    in_features: int
    format: WeightFormat
    activations: Activations
    has_bias: bool
    gate: str = ""
    adds: bool = False
    norm_eps: float = 0.0

    @property
    def num_squares(self) -> int:
        """Sums of squares of a row of `out`."""
        return -(-self.width // SQUARES_RUN)

    @property
    def width(self) -> int:
        """The columns of `out`."""
        return self.out_features // 2 if self.gate else self.out_features


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """One tensor that the kernel takes instead of the plain weight."""

    suffix: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the packed weight of one spec is cut up on one target."""

    lanes: int  # float32 values in one vector register
    vectors: int  # vector registers across one block
    block: int  # output features in one block
    blocks: int
    groups: int  # runs of GROUP inputs, the last ones padded with zeros
    groups_per_run: int  # groups whose activations, if int8, share one scale
    pairs: int  # of inputs, the last ones padded with zeros
    dot: bool  # int8 dot-product layout
    tensor: bool  # for tensor cores

    @property
    def padded_out(self) -> int:
        return self.block * self.blocks


def effective_activations(spec: LinearSpec, target: Target) -> Activations:
    """What the activations are really rounded to: int8 needs an instruction that gains by it.

    The dot product of four bytes (VNNI, Arm's) serves every quantized format. Without it, the
    product of byte pairs serves 4-bit weights only: it sums to int16, where 8-bit weights would
    overflow.
    Tensor cores take both operands in 16 bits: float16 for float16 weights, bfloat16 for others,
    whose integers it holds exactly and whose range no activation leaves. Some multiply 8-bit
    floats as they are.
    bfloat16 weights are multiplied with bfloat16 activations where a CPU does two at once.
    """
    if has_tensor_layout(spec, target):
        if spec.format.code == "f8" and target.has(FLOAT8_FEATURE):
            return "float8"
        return "float16" if spec.format.code == "f16" else "bfloat16"
    if spec.format.code == "bf16" and target.has_bfloat16_dot:
        return "bfloat16"
    if spec.activations == "float32" or not spec.format.is_quantized:
        return "float32"
    if has_quad_dot(target) or (spec.format.bits == 4 and has_pair_dot(target)):
        return "int8"
    return "float32"


def gate_run(target: Target) -> int:
    """How many gate rows come before as many up rows: the gate and the up of one output are then
    in neighbouring vector registers, or in the same lane of a GPU."""
    return target.float32_lanes or GATE_RUN


def can_gate(spec: LinearSpec, target: Target) -> bool:
    """Whether the kernel applies a gate: where runs of gates and ups take turns, whole ones."""
    can_pair = VECTORS == 2 if target.kind == "cpu" else has_tensor_layout(spec, target)
    return can_pair and spec.out_features % (2 * gate_run(target)) == 0


def has_quad_dot(target: Target) -> bool:
    """Whether the target multiplies four byte pairs and adds them to an int32 lane at once."""
    return target.has({64: "avx512_vnni", 16: "asimddp"}.get(target.vector_bytes, ""))


def has_pair_dot(target: Target) -> bool:
    """Whether the target multiplies two byte pairs and adds them in an int16 lane."""
    return target.has({64: "avx512bw", 32: "avx2"}.get(target.vector_bytes, ""))


def has_byte_tiles(target: Target) -> bool:
    """Whether the target multiplies matrix tiles of bytes, beside its dot products of four."""
    return target.has("amx_int8") and has_quad_dot(target)


def has_bfloat16_tiles(target: Target) -> bool:
    """Whether the target multiplies matrix tiles of bfloat16."""
    return target.has("amx_bf16") and target.has_bfloat16_dot


def has_tensor_layout(spec: LinearSpec, target: Target) -> bool:
    """Whether tensor cores multiply: not by float32, which they would round."""
    return target.kind == "cuda" and spec.format.code != "f32"


def groups_per_load(format: WeightFormat) -> int:
    """How many groups four lanes take with one load of 16 bytes each."""
    return 16 // format.bits


def _groups_of_a_step(format: WeightFormat) -> int:
    """Groups that the kernels for tensor cores go on by."""
    if format.code == "f8":
        return format.activation_run // GROUP
    return max(2, groups_per_load(format))


def layout(spec: LinearSpec, target: Target) -> Layout:
    """Cut `spec` into blocks for the vector registers of `target`."""
    assert spec.format.group_size in (0, GROUP), spec.format
    together = spec.format.activation_run // GROUP
    block = max(1, target.float32_lanes * VECTORS)
    tensor = has_tensor_layout(spec, target)
    groups = -(-spec.in_features // GROUP)
    whole = _groups_of_a_step(spec.format) if tensor else together
    pairs = -(-spec.in_features // 2)
    if has_bfloat16_tiles(target):
        pairs = -(-pairs // PAIRS_OF_TILE) * PAIRS_OF_TILE
    return Layout(
        lanes=target.float32_lanes,
        vectors=VECTORS,
        block=block,
        blocks=-(-spec.out_features // block),
        groups=-(-groups // whole) * whole,
        groups_per_run=together,
        pairs=pairs,
        dot=effective_activations(spec, target) == "int8",
        tensor=tensor,
    )


def packed_tensors(spec: LinearSpec, target: Target) -> tuple[PackedTensor, ...]:
    """Name, dtype and shape of every tensor that `pack` makes, in the kernel's argument order."""
    cut = layout(spec, target)
    if cut.tensor:
        return _tensor_core_tensors(spec, cut)
    dtype, rows = {
        ("f32", False): ("float32", (spec.in_features, cut.block)),
        ("f16", False): ("float16", (spec.in_features, cut.block)),
        ("bf16", False): ("uint16", (cut.pairs, 2 * cut.block)),
        ("q8", False): ("int8", (spec.in_features, cut.block)),
        ("q6", False): ("int8", (spec.in_features, cut.block)),
        ("q8_g32", False): ("int8", (cut.groups, GROUP, cut.block)),
        ("q4_s128", False): ("uint8", (cut.groups, GROUP // 2, cut.block)),
        ("q8", True): ("uint8", (cut.groups, GROUP // QUAD, QUAD * cut.block)),
        ("q8_g32", True): ("uint8", (cut.groups, GROUP // QUAD, QUAD * cut.block)),
        ("q6", True): ("uint8", (cut.groups, GROUP // QUAD * 3 // 4, QUAD * cut.block)),
        ("q4_s128", True): ("uint8", (cut.groups, GROUP // QUAD // 2, QUAD * cut.block)),
    }[spec.format.code, cut.dot]
    weight = PackedTensor("weight", dtype, (cut.blocks, *rows))
    if not spec.format.is_quantized:
        return (weight,)
    if spec.format.superblock_size:
        words = (cut.blocks, cut.groups // cut.groups_per_run, cut.block)
        return (weight, PackedTensor("scale", "uint32", words))
    if spec.format.group_size:
        return (weight, PackedTensor("scale", "float16", (cut.blocks, cut.groups, cut.block)))
    return (weight, PackedTensor("scale", "float32", (cut.blocks, cut.block)))


def _tensor_core_tensors(spec: LinearSpec, cut: Layout) -> tuple[PackedTensor, ...]:
    rows = spec.out_features
    if not spec.format.is_quantized:
        dtype = "float16" if spec.format.code == "f16" else "uint16"
        return (PackedTensor("weight", dtype, (rows, cut.groups * GROUP)),)
    together = groups_per_load(spec.format)
    shape = (rows, cut.groups // together, 4, together, spec.format.bits)
    is_int8 = spec.format.bits == 8 and spec.format.code != "f8"
    weight = PackedTensor("weight", "int8" if is_int8 else "uint8", shape)
    if spec.format.group_size:
        return (weight, PackedTensor("scale", "float16", (rows, cut.groups)))
    return (weight, PackedTensor("scale", "float32", (rows, 1)))
