"""The side of JAX in gpu.py."""

from __future__ import annotations

import warnings
from time import perf_counter
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from gpu import NUM_CLASSES, Size, agreement_row, overhead_rows

from aum.jax import Needs, init, measure, to_totals, update

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "jax"
SAMPLES = 100_000
NEEDS = {
    "update": None,
    "update, with confidence": Needs(("confidence",)),
    "update, with the noise posterior": Needs(("correct",), softmax=True, logits=True),
}


def device_of(device: str) -> jax.Device | None:
    """The device that is meant; None where there is none such."""
    try:
        return jax.devices(device)[0]
    except RuntimeError:  # JAX's word for a platform that is not there
        return None


def describe(device: str) -> str | None:
    """Name the device and the version; None where there is no such device."""
    found = device_of(device)
    return None if found is None else f"JAX {jax.__version__} on {found.device_kind}"


def batch_of(seed: int, num_classes: int, dtype: Any, device: Any) -> tuple[jax.Array, ...]:
    """Logits, targets and ids on a device; the first logits have ties, zeros of both signs and infinities."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((256, num_classes)) * 5
    logits[0], logits[1, ::2], logits[2, 0] = 0.0, -0.0, np.inf
    arrays = logits.astype(dtype), generator.integers(0, num_classes, 256, np.int32), generator.permutation(1000)[:256]
    return tuple(jax.device_put(each, device) for each in (*arrays[:2], arrays[2].astype(np.int32)))


def agreement(device: str, size: Size) -> list[str]:
    """Compare all columns of all margins, and the totals of a jitted step, with those of the CPU."""
    devices = device_of(device), jax.devices("cpu")[0]
    measured, step = jax.jit(measure), jax.jit(update)
    rows = []
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        for num_classes in (10, NUM_CLASSES):
            states: list[Any] = [jax.device_put(init(1000), each) for each in devices]
            differing = looked_at = 0
            for seed in range(size.agreement_batches):
                margins = []
                for place, each in enumerate(devices):
                    logits, targets, ids = batch_of(seed, num_classes, dtype, each)
                    margins.append(jax.device_get(measured(logits, targets)))
                    states[place] = step(states[place], logits, targets, ids)
                differing += count_differing(*map(jax.tree.leaves, margins))
                looked_at += 256
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of the infinities, which are left out
                there, here = (to_totals(each) for each in states)
            same = there.sums.tobytes() == here.sums.tobytes() and there.left_out == here.left_out
            setting = NAME, jnp.dtype(dtype).name, f"{num_classes:,}"
            rows.append(agreement_row(setting, differing, looked_at, same_totals=same))
    return rows


def count_differing(ours: list[Any], theirs: list[Any]) -> int:
    """Count rows that differ in some column, NaNs being equal."""
    columns = zip(map(np.asarray, ours), map(np.asarray, theirs), strict=True)
    differs = [(one != other) & ~((one != one) & (other != other)) for one, other in columns]  # noqa: PLR0124 # NaN is not itself
    return int(np.any(differs, axis=0).sum())


def transfers(device: str, size: Size) -> list[str]:  # noqa: ARG001 # as that of PyTorch
    """Have JAX refuse every copy to the host within a jitted step; it ends with an error where there is one."""
    found = device_of(device)
    rows = []
    for name, needs in NEEDS.items():
        state = jax.device_put(init(1000, NUM_CLASSES, needs), found)
        batch = batch_of(9, NUM_CLASSES, jnp.float32, found)
        step = jax.jit(update, donate_argnums=0)
        state = step(state, *batch)
        with jax.transfer_guard_device_to_host("disallow"):
            jax.block_until_ready(step(state, *batch))
        rows.append(f"| {NAME} | jitted `{name}` | 0 |")
    return rows


class Bottleneck(linen.Module):
    """Three convolutions and a shortcut: He et al. 2016, arXiv 1512.03385; group norm in place of running means."""

    width: int
    stride: int

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Give features (B, H, W, 4 * width)."""
        hidden = images
        for width, kernel, stride in ((self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1)):
            hidden = linen.Conv(width, (kernel, kernel), stride, use_bias=False, dtype=jnp.bfloat16)(hidden)
            hidden = linen.GroupNorm(num_groups=None, group_size=8, dtype=jnp.bfloat16)(hidden)
            hidden = linen.relu(hidden) if width == self.width else hidden
        shortcut = linen.Conv(4 * self.width, (1, 1), self.stride, use_bias=False, dtype=jnp.bfloat16)(images)
        return linen.relu(hidden + shortcut)


class Network(linen.Module):
    """A ResNet of bottlenecks; of `RESNET_50` the convolutions of that network."""

    size: Size

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (B, C) of images (B, H, W, 3)."""
        hidden = linen.Conv(self.size.width, (7, 7), 2, use_bias=False, dtype=jnp.bfloat16)(images)
        hidden = linen.max_pool(linen.relu(hidden), (3, 3), (2, 2), "SAME")
        for stage, count in enumerate(self.size.blocks):
            for block in range(count):
                hidden = Bottleneck(self.size.width * 2**stage, 2 if stage and not block else 1)(hidden)
        logits: jax.Array = linen.Dense(NUM_CLASSES, dtype=jnp.float32)(hidden.mean(axis=(1, 2)))
        return logits


class Step:
    """Jitted training steps by SGD, with an update of the state in each or without."""

    def __init__(self, device: Any, size: Size, needs: Needs | None, *, tracked: bool) -> None:
        self._size, self._tracked = size, tracked
        self._model, self._optimizer = Network(size), optax.sgd(0.01, momentum=0.9)
        generator = np.random.default_rng(0)
        shape = size.batch_size, size.image_size, size.image_size, 3
        targets = generator.integers(0, NUM_CLASSES, size.batch_size, np.int32)
        self._batch = jax.device_put((generator.standard_normal(shape, np.float32), targets), device)
        self._ids = [
            jax.device_put(np.arange(size.batch_size, dtype=np.int32) + step * size.batch_size, device)
            for step in range(size.steps)
        ]
        params = self._model.init(jax.random.key(0), self._batch[0])
        state = init(SAMPLES, NUM_CLASSES, needs) if needs is not None else init(SAMPLES)
        self._carry: Any = jax.device_put((params, self._optimizer.init(params), state), device)
        self._jitted = jax.jit(self._step, donate_argnums=0)
        self()

    def _step(self, carry: Any, images: jax.Array, targets: jax.Array, ids: jax.Array) -> Any:
        params, memory, state = carry

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            logits: Any = self._model.apply(params, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), logits

        gradient, logits = jax.grad(loss, has_aux=True)(params)
        updates, memory = self._optimizer.update(gradient, memory, params)
        measured = update(state, logits, targets, ids) if self._tracked else state
        return optax.apply_updates(params, updates), memory, measured

    def __call__(self) -> float:
        """Seconds of a step, over a group of them."""
        start = perf_counter()
        for ids in self._ids:
            self._carry = self._jitted(self._carry, *self._batch, ids)
        jax.block_until_ready(self._carry)
        return (perf_counter() - start) / self._size.steps


def overhead(device: str, size: Size) -> list[str]:
    """Time the step with and without."""
    found = device_of(device)
    sides: dict[str, Callable[[], float]] = {"without": Step(found, size, None, tracked=False)}
    sides |= {name: Step(found, size, needs, tracked=True) for name, needs in NEEDS.items()}
    sides["without, again"] = Step(found, size, None, tracked=False)
    return overhead_rows(NAME, sides, size.groups)
