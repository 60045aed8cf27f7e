"""What travels from a device to the host: counted, since a test that finds no device cannot time it."""

from typing import ClassVar

import pytest
import torch

from aum.torch import AUMCalculator
from aum_core import compute_margins

TO_HOST = {torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.tolist, torch.Tensor.item, torch.Tensor.to}
TO_HOST |= {torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__, torch.Tensor.__index__}


class Elsewhere(torch.Tensor):
    """A tensor that says it is on a device, and tells shape and type of whatever leaves it."""

    is_cpu = False
    transfers: ClassVar[list[tuple[int, ...]]] = []
    dtypes: ClassVar[list[torch.dtype]] = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        moved = func is not torch.Tensor.to or "cpu" in map(str, (*args[1:], *(kwargs or {}).values()))
        if func in TO_HOST and moved:
            cls.transfers.append(tuple(args[0].shape))
            cls.dtypes.append(args[0].dtype)
            with torch._C.DisableTorchFunctionSubclass():
                home = func(*args, **(kwargs or {}))
            return home.as_subclass(torch.Tensor) if isinstance(home, torch.Tensor) else home
        return super().__torch_function__(func, types, args, kwargs)


@pytest.fixture(autouse=True)
def transfers():
    Elsewhere.transfers.clear()
    Elsewhere.dtypes.clear()
    return Elsewhere.transfers


def batch(seed=0, num_rows=12, num_classes=7):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_rows, num_classes, generator=generator) * 5
    targets = torch.arange(num_rows) % num_classes  # a sample keeps its label
    return logits.as_subclass(Elsewhere), targets.as_subclass(Elsewhere), list(range(num_rows))


OPTIONS = {
    "the AUM alone": ({}, []),
    "records": ({"compressed": False}, []),
    "a score of margins": ({"scores": ["bounded_aum", "correctness", "forgetting"]}, []),
    "a score of the softmax": ({"scores": ["confidence", "el2n", "correctness"]}, [(12, 7)]),
    "the noise posterior": ({"noise_posterior": True}, [(12, 7)]),
    "all of it": ({"compressed": False, "scores": ["confidence", "forgetting"], "noise_posterior": True}, [(12, 7)]),
}


@pytest.mark.parametrize("method", ["update", "accumulate"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_batch_comes_home_in_one_transfer_and_logits_only_where_they_are_needed(tmp_path, transfers, name, method):
    options, logits_too = OPTIONS[name]
    calculator = AUMCalculator(tmp_path, **options)
    for seed in range(3):
        transfers.clear()
        getattr(calculator, method)(*batch(seed))
        assert transfers == [(5, 12), *logits_too]


def test_once_the_averaging_window_has_closed_logits_stay_where_they_are(tmp_path, transfers):
    calculator = AUMCalculator(tmp_path, noise_posterior=True)
    _, targets, ids = batch(num_rows=84)
    labels = targets.numpy()
    believed = (labels + (torch.arange(84).numpy() % 4 == 0)) % 7  # in the first epochs: the rest is learnt by heart
    wrong, right = ((9.0 * torch.eye(7)[classes]).as_subclass(Elsewhere) for classes in (believed, labels))
    for epoch in range(6):
        calculator.accumulate(wrong if epoch < 3 else right, targets, ids)
        calculator.end_epoch()
    assert not calculator.needs.logits
    transfers.clear()
    calculator.accumulate(right, targets, ids)
    assert transfers == [(5, 84)]


def test_half_logits_travel_as_they_are_and_are_widened_at_home(tmp_path, transfers):
    logits, targets, ids = batch()
    AUMCalculator(tmp_path, scores=["confidence"]).accumulate(logits.to(torch.bfloat16), targets, ids)
    assert transfers == [(5, 12), (12, 7)]
    assert Elsewhere.dtypes == [torch.int32, torch.bfloat16]


def test_ids_on_the_device_travel_too(tmp_path, transfers):
    logits, targets, ids = batch()
    AUMCalculator(tmp_path).accumulate(logits, targets, torch.tensor(ids).as_subclass(Elsewhere))
    assert transfers == [(12,), (5, 12)]


def test_a_second_transfer_would_be_seen(transfers):
    logits, targets, _ = batch()
    assert compute_margins(logits.cpu(), targets.numpy(force=True)).margin.shape == (12,)
    assert (bool(targets[0] < 1), targets[0].item(), targets.tolist()[1], int(targets[2])) == (True, 0, 1, 2)
    logits.to("cpu")
    assert transfers == [(12, 7), (12,), (), (), (12,), (), (12, 7)]
