"""What a PyTorch user may hand over, and that none of it is touched."""

import numpy as np
import pytest
import torch

import aum.torch
import aum_core
from aum_core import compute_margins


@pytest.fixture
def calculator(tmp_path):
    return aum.torch.AUMCalculator(tmp_path)


def random_batch(num_rows=12, num_classes=7, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_rows, num_classes, generator=generator, dtype=torch.float64) * 5
    return logits.to(dtype), torch.randint(num_classes, (num_rows,), generator=generator), torch.arange(num_rows)


def margins_of(records):
    return [record.margin for record in records.values()]


def expected_margins(logits, targets):
    return compute_margins(logits.detach().contiguous().numpy(), targets.numpy()).margin.tolist()


def test_logits_that_require_grad_and_their_graph_are_untouched(calculator):
    weight = torch.ones(5, 7, requires_grad=True)
    logits = torch.randn(12, 5) @ weight
    _, targets, ids = random_batch()
    before, version = logits.detach().clone(), logits._version
    records = calculator.update(logits, targets, ids)
    calculator.accumulate(logits, targets, ids)
    assert margins_of(records) == expected_margins(logits, targets)
    assert logits.requires_grad
    assert logits._version == version
    assert torch.equal(logits, before)
    torch.nn.functional.cross_entropy(logits, targets).backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    "view",
    [
        lambda logits: logits.t().contiguous().t(),
        lambda logits: torch.stack([logits, logits], 2)[:, :, 1],
        lambda logits: torch.cat([logits, logits])[5:17],
        lambda logits: logits[:1].expand(12, 7),
        lambda logits: torch.flip(logits, [0]),
    ],
    ids=["transposed", "strided", "sliced", "expanded", "flipped"],
)
def test_views_are_measured_as_they_are(calculator, view):
    logits, targets, ids = random_batch()
    logits = view(logits)
    assert margins_of(calculator.update(logits, targets, ids)) == expected_margins(logits, targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(12, 7), (40, 8000)])
def test_half_types_are_measured_in_float32(calculator, dtype, shape):
    logits, targets, ids = random_batch(shape[0], shape[1], dtype)
    assert margins_of(calculator.update(logits, targets, ids)) == expected_margins(logits.float(), targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_get_the_same_errors(calculator, dtype):
    with pytest.raises(ValueError, match=r"targets: sample 35 has target 9000, .*\(B, 8000\)"):
        calculator.update(torch.zeros(40, 8000, dtype=dtype), torch.tensor([0] * 35 + [9000] * 5), range(40))
    with pytest.raises(ValueError, match=r"logits: shape \(4, 1\).*\[0, z\]"):
        calculator.update(torch.zeros(4, 1, dtype=dtype), torch.zeros(4, dtype=torch.int64), range(4))
    with pytest.raises(ValueError, match=r"targets: shape \(39,\)"):
        calculator.update(torch.zeros(40, 8000, dtype=dtype), torch.zeros(39, dtype=torch.int64), range(40))


def test_inference_mode_and_no_grad(calculator):
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            logits, targets, ids = random_batch()
            logits = logits * 1.0
            assert margins_of(calculator.update(logits, targets, ids)) == expected_margins(logits, targets)


def test_autocast(calculator):
    model, (features, targets, ids) = torch.nn.Linear(7, 7), random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(features)
        records = calculator.update(logits, targets, ids)
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    assert logits.dtype == torch.bfloat16
    assert margins_of(records) == expected_margins(logits.float(), targets)


def test_nested_grad_transforms_are_left_alone(calculator):
    logits, targets, ids = random_batch()
    parameter = torch.nn.Parameter(logits)
    assert margins_of(calculator.update(parameter, targets, ids)) == expected_margins(logits, targets)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_targets_and_ids_of_any_integer_type(calculator, dtype):
    logits, targets, ids = random_batch()
    records = calculator.update(logits, targets.to(dtype), ids.to(dtype))
    assert margins_of(records) == expected_margins(logits, targets)
    assert list(records) == ids.tolist()


def test_ids_as_a_list_of_tensors(calculator):
    logits, targets, ids = random_batch()
    assert list(calculator.update(logits, targets, list(ids))) == ids.tolist()


def test_numpy_arrays_are_welcome_too(calculator):
    logits, targets, ids = random_batch()
    records = calculator.update(logits.numpy(), targets.numpy(), ids.numpy())
    assert margins_of(records) == expected_margins(logits, targets)


def test_cpu_logits_are_not_copied(monkeypatch, calculator):
    logits, targets, ids = random_batch()
    seen = []
    monkeypatch.setattr(
        aum.torch.backend, "compute_margins", lambda *args, **_: seen.append(args) or compute_margins(*args)
    )
    calculator.accumulate(logits, targets, ids)
    assert seen[0][0].__array_interface__["data"][0] == logits.data_ptr()
    assert seen[0][1].__array_interface__["data"][0] == targets.data_ptr()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_model(calculator, backend):
    model, (features, targets, ids) = torch.nn.Linear(7, 7), random_batch()
    logits = torch.compile(model, backend=backend)(features)
    assert margins_of(calculator.update(logits, targets, ids)) == expected_margins(logits, targets)


# torch's own, wherever a graph breaks over a tensor that is no leaf
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("method", ["update", "accumulate"])
def test_inside_a_compiled_step(calculator, method):
    model, (features, targets, ids) = torch.nn.Linear(7, 7), random_batch()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    @torch.compile(backend="aot_eager")
    def forward(features, targets, ids):
        logits = model(features)
        getattr(calculator, method)(logits, targets, ids)
        return logits, torch.nn.functional.cross_entropy(logits, targets)

    expected = aum_core.Totals()
    for _ in range(3):
        logits, loss = forward(features, targets, ids)
        expected.add(ids.tolist(), expected_margins(logits, targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert calculator.totals.sums.tolist() == expected.sums.tolist()
    assert calculator.totals.counts.tolist() == [3] * 12


class TestOnAnotherDevice:
    """The path of tensors that live elsewhere, on the CPU: what it computes does not depend on where."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, monkeypatch):
        monkeypatch.setattr(aum.torch.backend, "compute_margins", None)  # the host's path would fail
        monkeypatch.setattr(
            aum.torch.TorchBackend,
            "measure",
            lambda _, logits, targets, **_asked: aum.torch.backend._measure_on_device(logits, targets),
        )

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(12, 7), (3, 2), (1, 5), (40, 8000)])
    def test_margins_are_those_of_the_host(self, calculator, dtype, shape):
        logits, targets, ids = random_batch(shape[0], shape[1], dtype)
        wide = logits.float() if dtype in (torch.float16, torch.bfloat16) else logits
        expected = compute_margins(wide.numpy(), targets.numpy())
        records = list(calculator.update(logits, targets, ids).values())
        for name in ("margin", "target_val", "other_val", "other_logit"):
            assert [getattr(record, name) for record in records] == getattr(expected, name).tolist(), name

    def test_extremes_come_over_bit_for_bit(self, tmp_path):
        calculator = aum.torch.AUMCalculator(tmp_path, nonfinite="propagate")
        inf = float("inf")
        rows = [[-0.0, 0.0], [1e-45, -1e-45], [3e38, -3e38], [-inf, inf], [inf, inf], [float("nan"), 1.0], [0.5, -inf]]
        logits, targets = torch.tensor(rows), torch.zeros(len(rows), dtype=torch.int64)
        found = [record.margin for record in calculator.update(logits, targets, range(len(rows))).values()]
        np.testing.assert_array_equal(found, compute_margins(logits.numpy(), targets.numpy()).margin)

    def test_a_masked_target_is_never_its_own_rival(self, tmp_path):
        calculator = aum.torch.AUMCalculator(tmp_path, nonfinite="propagate")
        logits = torch.full((2, 3), float("-inf"))
        logits[[0, 1], [0, 1]] = 1.0
        records = calculator.update(logits, torch.tensor([0, 1]), [0, 1])
        assert [record.other_logit for record in records.values()] == [1, 0]

    @pytest.mark.parametrize("target", [-100, 7, 2**31, 2**32, -(2**63)])
    def test_a_target_out_of_range_is_named_and_changes_nothing(self, calculator, target):
        logits, targets, ids = random_batch()
        targets[4] = target
        with pytest.raises(ValueError, match=r"targets: sample 4 has target .*\[0, 7\)"):
            calculator.accumulate(logits, targets, ids)
        assert len(calculator.totals) == 0

    def test_wrong_shapes_and_types_are_named(self, calculator):
        logits, targets, ids = random_batch()
        with pytest.raises(ValueError, match=r"targets: shape \(11,\)"):
            calculator.update(logits, targets[:11], ids)
        with pytest.raises(TypeError, match=r"targets: dtype float32"):
            calculator.update(logits, targets.float(), ids)
        with pytest.raises(TypeError, match=r"logits: dtype int64"):
            calculator.update(logits.long(), targets, ids)
        with pytest.raises(ValueError, match=r"logits: shape \(12, 1\).*\[0, z\]"):
            calculator.update(logits[:, :1], targets, ids)

    def test_one_transfer_brings_the_batch_home(self, monkeypatch):
        logits, targets, _ = random_batch()
        transfers = []
        numpy = torch.Tensor.numpy
        monkeypatch.setattr(torch.Tensor, "numpy", lambda self, **kw: transfers.append(self.shape) or numpy(self, **kw))
        aum.torch.backend._measure_on_device(logits, targets)
        big = [shape for shape in transfers if len(shape) == 2 and shape[0] == 5]
        assert big == [torch.Size([5, 12])]


def test_tensors_of_another_device_are_reduced_there(calculator, monkeypatch):
    logits, targets, ids = random_batch()
    host = compute_margins(logits.numpy(), targets.numpy())
    seen = []
    monkeypatch.setattr(aum.torch.backend, "_measure_on_device", lambda *args: seen.append(args) or host)
    calculator.accumulate(logits.to("meta").requires_grad_(), targets.to("meta"), ids)
    assert [each.device.type for each in seen[0]] == ["meta", "meta"]
    assert not seen[0][0].requires_grad
    calculator.accumulate(logits, targets, ids)
    assert len(seen) == 1
