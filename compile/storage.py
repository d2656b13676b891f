"""Which tensors the artifact stores for the weights of a graph, in which format, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from tvm import relax

from ingot.compile.graph import Graph, shape_of
from ingot.compile.kernels.matmul import LinearSpec, pack, packed_tensors
from ingot.compile.schemes import FORMATS, Scheme, WeightFormat
from ingot.compile.weight_expressions import Array, Read, evaluate
from ingot.errors import UsageError
from ingot.targets import Target


@dataclass(frozen=True, slots=True)
class FormatRules:
    """The format of each matrix: the scheme's by its role, unless a pattern says otherwise.

    `keep` maps patterns (as in a shell) over the model's tensor names to format codes; the first
    that matches wins. A pattern may leave out the last part, so `lm_head` is `lm_head.weight`.
    """

    scheme: Scheme
    keep: tuple[tuple[str, str], ...] = ()
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """All names of a tensor that several parameters share, by the one that it goes by."""

    def __post_init__(self) -> None:
        for pattern, code in self.keep:
            if code not in FORMATS:
                raise UsageError(
                    f"--keep {pattern}={code}: no format is called {code!r}; "
                    f"formats are {', '.join(FORMATS)}"
                )

    def for_tensors(self, aliases: Mapping[str, Sequence[str]]) -> FormatRules:
        """These rules for a model's tensors; `UsageError` for a pattern that matches none."""
        rules = replace(self, aliases=aliases)
        for pattern, code in self.keep:
            if not any(rules._matches(name, pattern) for name in aliases):
                raise UsageError(
                    f"--keep {pattern}={code}: no tensor of the model is called {pattern!r}",
                    f"tensors have names like {', '.join(list(aliases)[:3])}; "
                    "* stands for anything",
                )
        return rules

    def check_target(self, target: Target) -> None:
        """Raise `UsageError` for a format that a target of this kind has no kernels for."""
        for code in (*self.scheme.formats, *(code for _, code in self.keep)):
            if target.kind not in FORMATS[code].kinds:
                others = "CPUs" if target.kind == "cuda" else "GPUs"
                raise UsageError(
                    f"{target.name} has no kernels for {code}, which is for {others} alone",
                    "int8 runs everywhere: --quant w8, or --keep PATTERN=q8_g32 for single tensors",
                )

    def format_of(self, names: list[str], role: str) -> WeightFormat:
        """`role` is `linear`, `embedding` or `head`."""
        for pattern, code in self.keep:
            if any(self._matches(name, pattern) for name in names):
                return FORMATS[code]
        return FORMATS[getattr(self.scheme, role)]

    def _matches(self, name: str, pattern: str) -> bool:
        return any(
            fnmatchcase(alias, pattern) or fnmatchcase(alias.rpartition(".")[0], pattern)
            for alias in self.aliases.get(name, (name,))
        )


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One argument of the step: a tensor in the weights files."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """One weight expression and the tensors that it is stored as.

    A matrix has the `spec` of the linear that reads it and is packed for the target; everything
    else is stored in float32 as it is.
    """

    expression: relax.Expr
    sources: tuple[str, ...]
    spec: LinearSpec | None
    tensors: tuple[StoredTensor, ...]
    variables: tuple[relax.Var, ...]


class WeightTable:
    """The weights that lowering has asked for, each once, in the order of the step's arguments."""

    def __init__(self, graph: Graph, checkpoint_names: dict[str, str], target: Target) -> None:
        self._graph = graph
        self._checkpoint_names = checkpoint_names
        self._target = target
        self._stored: dict[tuple[relax.Expr, LinearSpec | None], StoredWeight] = {}

    def __iter__(self) -> Iterator[StoredWeight]:
        return iter(self._stored.values())

    def names_of(self, expression: relax.Expr) -> list[str]:
        """The checkpoint tensors that `expression` is made of."""
        return [self._checkpoint_names[w.name] for w in self._graph.weights_in(expression)]

    def plain(self, expression: relax.Expr) -> relax.Var:
        """A variable for `expression` stored as float32."""
        shape = tuple(int(extent) for extent in shape_of(expression))
        return self._store(expression, None, [("", "float32", shape)]).variables[0]

    def matrix(self, expression: relax.Expr, spec: LinearSpec) -> tuple[relax.Var, ...]:
        """Variables for `expression` packed for the kernel of `spec`."""
        packed = [(t.suffix, t.dtype, t.shape) for t in packed_tensors(spec, self._target)]
        return self._store(expression, spec, packed).variables

    def _store(
        self,
        expression: relax.Expr,
        spec: LinearSpec | None,
        tensors: list[tuple[str, str, tuple[int, ...]]],
    ) -> StoredWeight:
        # What a kernel does beside multiplying changes nothing of what is stored.
        key = (expression, spec and replace(spec, has_bias=False, adds=False, norm_eps=0.0))
        if key not in self._stored:
            sources = tuple(self.names_of(expression))
            base = join_names(sources)
            taken = {tensor.name for weight in self for tensor in weight.tensors}
            name, copy = base, 1
            while name in taken:  # the same weight in a second form
                copy += 1
                name = f"{base}#{copy}"
            stored = tuple(
                StoredTensor(name if suffix in ("", "weight") else f"{name}.{suffix}", dtype, shape)
                for suffix, dtype, shape in tensors
            )
            variables = tuple(
                relax.Var(tensor.name, relax.TensorType(tensor.shape, tensor.dtype))
                for tensor in stored
            )
            self._stored[key] = StoredWeight(expression, sources, spec, stored, variables)
        return self._stored[key]

    def arrays(self, weight: StoredWeight, read: Read) -> tuple[Array, ...]:
        """Evaluate and pack one weight; `read` gives a checkpoint tensor in float32 by its name."""
        value = evaluate(
            self._graph, weight.expression, lambda var: read(self._checkpoint_names[var])
        )
        if weight.spec is not None:
            return pack(value, weight.spec, self._target)
        return (value.astype("float32", copy=False),)


def join_names(names: tuple[str, ...]) -> str:
    """`a.{q,k,v}.weight` for `a.q.weight`, `a.k.weight`, `a.v.weight`."""
    split = [name.split(".") for name in names]
    if len({len(parts) for parts in split}) != 1:
        return "+".join(names)
    columns = [list(dict.fromkeys(column)) for column in zip(*split, strict=True)]
    return ".".join(c[0] if len(c) == 1 else "{" + ",".join(c) + "}" for c in columns)
