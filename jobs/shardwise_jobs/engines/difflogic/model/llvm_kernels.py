"""What one gate does to a block of columns, said to the compiler in its own words.

A loop would leave it to the compiler whether and how wide it computes; here a whole block is one vector of LLVM, which
every processor is given in the widest pieces it has. No operation may be reassociated or fused: none is marked so, and
the order of a sum over a block is spelled out, half after half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

CHUNK = 32
"""Columns of a block of numbers."""
WORDS = 8
"""Columns of a block of words."""
ALIGNMENT = 64
"""Bytes: arrays that these functions are given start at a multiple of it, and so does every row."""
_TERMS = 4

_intrinsic = cast("Callable[[Callable[..., Any]], Callable[..., None]]", intrinsic)


@_intrinsic
def mix(_context: Any, values: Any, coefficients: Any, table: Any, gate: Any) -> Any:
    """Write the output of a gate: values (places, CHUNK), coefficients (gates, 4), table `Circuit.kept` or alike."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _Block(context, builder, signature, arguments)
        a_place, b_place, out, parameters = block.line(2, width=4)
        rows, c = block.array(0), block.array(1)
        c0, c1, c2, c3 = (block.spread(c, parameters, term) for term in range(_TERMS))
        a, b = block.load(rows, a_place), block.load(rows, b_place)
        low = builder.fadd(c0, builder.fmul(c1, a))
        high = builder.fmul(builder.fadd(c2, builder.fmul(c3, a)), b)
        block.store(builder.fadd(low, high), rows, out)
        return context.get_dummy_value()

    return types.void(values, coefficients, table, gate), generate


@_intrinsic
def mix_back(_context: Any, values: Any, grads: Any, coefficients: Any, sums: Any, table: Any, gate: Any) -> Any:
    """Carry a gate's gradient to its inputs, and add its four sums over the block to sums (gates, 4) of float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _Block(context, builder, signature, arguments)
        a_row, b_row, own, a_before, a_after, b_before, b_after, parameters = block.line(4, width=8)
        rows, slopes, c, total = (block.array(number) for number in range(4))
        c1, c2, c3 = (block.spread(c, parameters, term) for term in (1, 2, 3))
        a, b, g = block.load(rows, a_row), block.load(rows, b_row), block.load(slopes, own)
        by_a = builder.fmul(g, builder.fadd(c1, builder.fmul(c3, b)))
        block.store(builder.fadd(block.load(slopes, a_before), by_a), slopes, a_after)
        by_b = builder.fmul(g, builder.fadd(c2, builder.fmul(c3, a)))
        block.store(builder.fadd(block.load(slopes, b_before), by_b), slopes, b_after)
        ga, gb = builder.fmul(g, a), builder.fmul(g, b)
        terms = block.sums_of([g, ga, gb, builder.fmul(ga, b)])
        wide = ir.VectorType(ir.DoubleType(), _TERMS)
        if terms.type != wide:
            terms = builder.fpext(terms, wide)
        place = builder.bitcast(builder.gep(total, [builder.mul(parameters, _I64(_TERMS))]), wide.as_pointer())
        builder.store(builder.fadd(builder.load(place, align=8), terms), place, align=8)
        return context.get_dummy_value()

    return types.void(values, grads, coefficients, sums, table, gate), generate


def _through_words(columns: int) -> Callable[..., Any]:
    def typed(_context: Any, values: Any, masks: Any, table: Any, gate: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            block = _Block(context, builder, signature, arguments, columns=columns)
            a_place, b_place, out, parameters = block.line(2, width=4)
            rows, k = block.array(0), block.array(1)
            k0, k1, k2, k3 = (block.spread(k, parameters, term) for term in range(_TERMS))
            a, b = block.load(rows, a_place), block.load(rows, b_place)
            low = builder.xor(k0, builder.and_(k1, a))
            high = builder.and_(builder.xor(k2, builder.and_(k3, a)), b)
            block.store(builder.xor(low, high), rows, out)
            return context.get_dummy_value()

        return types.void(values, masks, table, gate), generate

    return typed


look_up_word = _intrinsic(_through_words(1))
"""Write the output of a gate for 64 cells: values (places, 1) of uint64, masks (gates, 4), table as for `mix`."""
look_up_words = _intrinsic(_through_words(WORDS))
"""The same for a block: values (places, WORDS)."""


class _Block:
    """Vectors of a whole block's width."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, *, columns: int = CHUNK) -> None:
        self._context, self._builder = context, builder
        self._signature, self._arguments, self._columns = signature, arguments, columns

    def array(self, number: int) -> Any:
        """Return the address of an array among the arguments."""
        return self._context.make_array(self._signature.args[number])(
            self._context, self._builder, self._arguments[number]
        ).data

    def line(self, number: int, *, width: int) -> list[Any]:
        """Return the numbers of the gate's line of a table; the gate is the last argument."""
        builder, gate = self._builder, self._arguments[-1]
        start = builder.gep(self.array(number), [builder.mul(gate, gate.type(width))])
        return [builder.zext(builder.load(builder.gep(start, [_I64(place)])), _I64) for place in range(width)]

    def spread(self, parameters: Any, gate: Any, term: int) -> Any:
        """Return one of a gate's four parameters in every column."""
        builder = self._builder
        place = builder.gep(parameters, [builder.add(builder.mul(gate, _I64(_TERMS)), _I64(term))])
        one = builder.load(place)
        vector = ir.VectorType(one.type, self._columns)
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), one, _I32(0))
        return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), _chosen([0] * self._columns))

    def load(self, rows: Any, row: Any) -> Any:
        """Return a row."""
        return self._builder.load(self._place(rows, row), align=self._alignment(rows))

    def store(self, vector: Any, rows: Any, row: Any) -> None:
        """Write a row."""
        self._builder.store(vector, self._place(rows, row), align=self._alignment(rows))

    def sums_of(self, terms: list[Any]) -> Any:
        """Return the sums of four vectors as one vector of four, each added up half after half."""
        width = self._columns
        while width > _TERMS:
            width //= 2
            halves = [list(range(width)), list(range(width, 2 * width))]
            terms = [self._builder.fadd(*(self._pick(term, term, half) for half in halves)) for term in terms]
        # The last two halvings are done for several at once.
        first, second = (
            self._builder.fadd(self._pick(one, two, [0, 1, 4, 5]), self._pick(one, two, [2, 3, 6, 7]))
            for one, two in (terms[:2], terms[2:])
        )
        return self._builder.fadd(self._pick(first, second, [0, 2, 4, 6]), self._pick(first, second, [1, 3, 5, 7]))

    def _pick(self, one: Any, two: Any, places: list[int]) -> Any:
        return self._builder.shuffle_vector(one, two, _chosen(places))

    def _place(self, rows: Any, row: Any) -> Any:
        builder = self._builder
        vector = ir.VectorType(rows.type.pointee, self._columns)
        start = builder.gep(rows, [builder.mul(row, _I64(self._columns))])
        return builder.bitcast(start, vector.as_pointer())

    def _alignment(self, rows: Any) -> int:
        size = 4 if isinstance(rows.type.pointee, ir.FloatType) else 8
        return min(ALIGNMENT, size * self._columns)


_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _chosen(places: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(places)), places)
