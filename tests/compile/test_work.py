"""Records of a step's work: amounts in its dimensions, places, order, and the bodies' loops."""

import tvm
from tvm import relax, tirx

from ingot.compile.kernels import build_kernel
from ingot.compile.kernels.matmul import LinearSpec, packed_tensors
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.schemes import FORMATS
from ingot.compile.step_inputs import create_step_inputs
from ingot.compile.work import describe_work
from ingot.runtime.artifact.work import evaluate
from ingot.targets import resolve_target

TARGET = resolve_target("cpu:x86-64-v3")
WIDTH = 64
LINEAR = LinearSpec(WIDTH, WIDTH, FORMATS["q8_g32"], "float32", has_bias=False)
NAMES = [
    "model.layers.0.up.weight",
    "model.layers.0.up.weight.scale",
    "model.layers.1.up.weight",
    "model.layers.1.up.weight.scale",
]


def build_module() -> tvm.IRModule:
    """x = ones; for two layers: x = linear(norm(x)); then a core operator over all of it."""
    builder = relax.BlockBuilder()
    n, m = tirx.Var("n", "int64"), tirx.Var("m", "int64")
    norm = builder.add_func(build(NormSpec("rms", WIDTH, 1e-6, has_weight=False), "norm"), "norm")
    linear = builder.add_func(build(LINEAR, "matmul"), "linear")
    packed = packed_tensors(LINEAR, TARGET) * 2
    pools = relax.Var("kv_pools", relax.TupleType([]))
    weights = relax.Var(
        "weights", relax.TupleType([relax.TensorType(t.shape, t.dtype) for t in packed])
    )
    out = relax.TensorType([n, WIDTH], "float32")
    with builder.function("step", [*create_step_inputs(n, m).as_list(), pools, weights]):
        with builder.dataflow():
            value = builder.emit(relax.op.ones(relax.ShapeExpr([n, WIDTH]), "float32"))
            for layer in range(2):
                value = builder.emit(relax.call_tir(norm, [value], out))
                tensors = [
                    builder.emit(relax.TupleGetItem(weights, 2 * layer + i)) for i in range(2)
                ]
                value = builder.emit(relax.call_tir(linear, [value, *tensors], out))
            value = builder.emit_output(relax.op.exp(value))
        builder.emit_func_output(value)
    return relax.transform.LegalizeOps()(builder.get())


def build(spec: object, op: str) -> tirx.PrimFunc:
    return build_kernel(op, spec, TARGET).without_attr("global_symbol")


def test_a_step_becomes_records() -> None:
    full, norm, linear, exp = describe_work(build_module(), NAMES)
    assert (norm.op, norm.place, norm.calls) == ("norm", "norm", (1, 3))
    assert (linear.op, linear.place, linear.calls) == ("matmul", "model.layers.up", (2, 4))
    assert linear.kernel == "linear"
    # 8.5 bits a weight: the layers' weights are no part of a row's bytes
    assert linear.weight_bytes == WIDTH * WIDTH * 17 // 16
    assert linear.activation_bytes == {"n": 4 * 2 * WIDTH}
    assert linear.operations == {"n": 2 * WIDTH * WIDTH}
    assert (linear.parallel_regions, linear.is_vectorised) == (1, True)
    assert norm.parallel_regions == 0, "a few rows wake nobody"
    for record, tensors in ((full, 1), (exp, 2)):
        assert record.op == "core" and not record.is_vectorised
        assert record.activation_bytes == {"n": 4 * tensors * WIDTH}


def test_an_amount_has_a_value_in_a_step() -> None:
    assert evaluate({"1": 7, "n": 2, "b*p": 3}, {"n": 10, "b": 4, "p": 5}) == 7 + 20 + 60
    assert evaluate({}, {}) == 0
