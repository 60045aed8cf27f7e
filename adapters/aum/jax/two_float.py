"""Sums as exact as float64's where a device has float32 alone: each is two floats, a value and what it could not hold.

XLA keeps the order of float operations unless it is told otherwise, so that the errors computed here are not
simplified to zero; the tests hold that under `jit`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["TwoFloat", "add", "sum_by_row"]

TwoFloat = tuple[jax.Array, jax.Array]
"""A sum: its rounded value, and what the rounding left out."""


def add(a: TwoFloat, b: TwoFloat) -> TwoFloat:
    """Add two sums, to a relative error of 2**-46: algorithm 6 of Joldes, Muller and Popescu 2017.

    Examples
    --------
    >>> one, tiny = (jnp.float32(1), jnp.float32(0)), (jnp.float32(1e-9), jnp.float32(0))
    >>> total, rest = add(one, tiny)
    >>> float(total), bool(rest == tiny[0])
    (1.0, True)
    """
    total, rest = _two_sum(a[0], b[0])
    small, smaller = _two_sum(a[1], b[1])
    total, rest = _fast_two_sum(total, rest + small)
    return _fast_two_sum(total, rest + smaller)


def sum_by_row(rows: jax.Array, values: jax.Array, nowhere: int) -> tuple[jax.Array, TwoFloat]:
    """Add up the values of each row: a row that is there several times comes out once, with the sum of all.

    Parameters
    ----------
    rows : Array of shape (B,), int32
    values : Array of shape (B,)
    nowhere : int
        The row of what does not count; its sums are meaningless.

    Returns
    -------
    rows : Array of shape (B,)
        Each row of the input once, and `nowhere` in the places that this leaves.
    sums : TwoFloat of shape (B,)

    Examples
    --------
    >>> rows, sums = sum_by_row(jnp.array([7, 3, 7]), jnp.array([1.0, 2.0, 4.0]), nowhere=9)
    >>> rows, sums[0]
    (Array([3, 7, 9], dtype=int32), Array([2., 5., 4.], dtype=float32))
    """

    def where_repeats_are_rare(rows: jax.Array, values: jax.Array) -> tuple[jax.Array, TwoFloat]:
        ordered = jax.lax.sort(rows)
        repeated = jnp.any((ordered[1:] == ordered[:-1]) & (ordered[1:] != nowhere))
        out: tuple[jax.Array, TwoFloat] = jax.lax.cond(repeated, summed, as_they_are, rows, values)
        return out

    def as_they_are(rows: jax.Array, values: jax.Array) -> tuple[jax.Array, TwoFloat]:
        return rows, _alone(values)

    def summed(rows: jax.Array, values: jax.Array) -> tuple[jax.Array, TwoFloat]:
        rows, values = jax.lax.sort((rows, values), num_keys=1)
        same = rows[1:] == rows[:-1]
        first = jnp.concatenate([jnp.ones_like(rows[:1], bool), ~same])
        return jnp.where(first, rows, nowhere), _sum_runs(values, same)

    # a CPU saves two thirds of the time by looking first; to others the look would be a wait for the device
    out: tuple[jax.Array, TwoFloat] = jax.lax.platform_dependent(
        rows, values, cpu=where_repeats_are_rare, default=summed
    )
    return out


def _sum_runs(values: jax.Array, same: jax.Array) -> TwoFloat:
    """Sum, at each place, of the values from there to the end of its run; `same` (B - 1,) joins neighbours.

    By doubling: after k steps each place holds the sum of up to 2**k values.
    """
    sums = _alone(values)
    distance = 1
    while distance < len(values):
        ahead = [jnp.concatenate([jnp.where(same, each[distance:], 0), 0 * each[:distance]]) for each in sums]
        sums = add(sums, (ahead[0], ahead[1]))
        same = same[:-distance] & same[distance:]  # joins places at twice the distance from here on
        distance *= 2
    return sums


def _alone(values: jax.Array) -> TwoFloat:
    return values, 0 * values


def _two_sum(a: jax.Array, b: jax.Array) -> TwoFloat:
    """Sum and its rounding error, exactly (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _fast_two_sum(large: jax.Array, small: jax.Array) -> TwoFloat:
    """The same where the first is the larger (Dekker)."""
    total = large + small
    return total, small - (total - large)
