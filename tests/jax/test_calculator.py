"""Outside jit: the calculator, arrays of another device, data sets, and what the import brings."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aum.jax
from aum.jax import AUMCalculator, DatasetWithIndex, measure
from aum_core import compute_margins


@pytest.fixture
def calculator(tmp_path):
    return AUMCalculator(tmp_path)


def random_batch(num_rows=12, num_classes=7, dtype="float32"):
    generator = np.random.default_rng(0)
    logits = jnp.asarray(generator.normal(0, 5, (num_rows, num_classes)), dtype)
    return logits, jnp.asarray(generator.integers(0, num_classes, num_rows)), jnp.arange(num_rows)


def margins_of(records):
    return [record.margin for record in records.values()]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_half_types_are_measured_in_float32(calculator, dtype):
    logits, targets, ids = random_batch(dtype=dtype)
    expected = compute_margins(np.asarray(logits, np.float32), np.asarray(targets)).margin
    assert margins_of(calculator.update(logits, targets, ids)) == expected.tolist()


def test_logits_of_the_cpu_are_not_copied(calculator, monkeypatch):
    logits, targets, ids = random_batch(64, 100)
    seen = []

    def seeing(logits, targets, **options):
        seen.append(logits)
        return compute_margins(logits, targets, **options)

    monkeypatch.setattr(aum.jax.backend, "compute_margins", seeing)
    calculator.accumulate(logits, targets, ids)
    assert seen[0].__array_interface__["data"][0] == logits.unsafe_buffer_pointer()


@pytest.mark.parametrize("method", ["update", "accumulate"])
def test_inside_jit_the_calculator_says_what_to_call(calculator, method):
    step = jax.jit(getattr(calculator, method))
    with pytest.raises(TypeError, match=r"traced value.*aum\.jax\.update.*accumulate_measured"):
        step(*random_batch())
    with pytest.raises(TypeError, match="traced value"):
        jax.jit(lambda targets: getattr(calculator, method)(jnp.zeros((12, 7)), targets, range(12)))(jnp.zeros(12, int))
    assert len(calculator.totals) == 0


def test_logits_that_lie_on_several_devices(calculator):
    logits, targets, ids = random_batch()
    mesh = jax.make_mesh((4,), ("data",))
    spread = jax.device_put(logits, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    assert margins_of(calculator.update(spread, targets, ids)) == compute_margins(logits, targets).margin.tolist()


class TestOnAnotherDevice:
    """The path of arrays that live elsewhere, on the CPU: what it computes does not depend on where."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, monkeypatch):
        monkeypatch.setattr(aum.jax.backend, "compute_margins", None)  # the host's path would fail
        monkeypatch.setattr(aum.jax.backend, "_on_host", lambda array: False)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    @pytest.mark.parametrize("shape", [(12, 7), (1, 2)])
    def test_records_are_those_of_the_host(self, calculator, dtype, shape):
        logits, targets, ids = random_batch(shape[0], shape[1], dtype)
        expected = compute_margins(np.asarray(logits, np.float32), np.asarray(targets))
        records = list(calculator.update(logits, targets, ids).values())
        for name in ("margin", "target_val", "other_val", "other_logit"):
            assert [getattr(record, name) for record in records] == getattr(expected, name).tolist(), name

    @pytest.mark.parametrize("options", [{}, {"compressed": False}, {"scores": ["correctness"]}])
    def test_a_batch_comes_home_in_one_transfer(self, tmp_path, options, monkeypatch):
        calculator, transfers = AUMCalculator(tmp_path, **options), []
        get, to_numpy = jax.device_get, aum.jax.JaxBackend.to_numpy

        def counting_get(tree):
            transfers.append(tree)
            return get(tree)

        def counting_to_numpy(backend, array):
            transfers.extend([array] if isinstance(array, jax.Array) else [])
            return to_numpy(backend, array)

        monkeypatch.setattr(jax, "device_get", counting_get)
        monkeypatch.setattr(aum.jax.JaxBackend, "to_numpy", counting_to_numpy)
        logits, targets, ids = random_batch()
        ids = np.asarray(ids)
        for number, method in enumerate((calculator.update, calculator.accumulate), start=1):
            method(logits, targets, ids)
            assert len(transfers) == number, transfers
        calculator.accumulate_measured(jax.jit(measure)(logits, targets), ids)
        assert len(transfers) == 3, transfers

    def test_a_target_of_the_host_is_not_cut_to_32_bits(self, calculator):
        logits, targets, ids = random_batch()
        wide = np.asarray(targets, np.int64)
        wide[4] += 2**32
        with pytest.raises(ValueError, match=rf"targets: {wide[4]} does not fit"):
            calculator.accumulate(logits, wide, ids)
        assert len(calculator.totals) == 0

    @pytest.mark.parametrize("target", [-100, 7, 2**31 - 1])
    def test_a_target_out_of_range_is_named_and_changes_nothing(self, calculator, target):
        logits, targets, ids = random_batch()
        with pytest.raises(ValueError, match=rf"targets: sample 4 has target {target}, .*\[0, 7\)"):
            calculator.accumulate(logits, targets.at[4].set(target), ids)
        assert len(calculator.totals) == 0

    def test_wrong_shapes_and_types_are_named(self, calculator):
        logits, targets, ids = random_batch()
        with pytest.raises(ValueError, match=r"targets: shape \(11,\)"):
            calculator.update(logits, targets[:11], ids)
        with pytest.raises(TypeError, match=r"targets: dtype float32"):
            calculator.update(logits, targets.astype(float), ids)
        with pytest.raises(TypeError, match=r"logits: dtype int32"):
            calculator.update(logits.astype(int), targets, ids)
        with pytest.raises(ValueError, match=r"logits: shape \(12, 1\).*\[0, z\]"):
            calculator.update(logits[:, :1], targets, ids)


class Source:
    """A source of random access, as grain has them."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return {"x": np.full(2, index, np.float32), "y": index % 3}


def test_a_loader_that_samples_with_numpy_ints_gets_each_sample_under_its_position():
    dataset = DatasetWithIndex(Source())
    order = np.random.default_rng(0).permutation(len(dataset))
    items = [dataset[index] for index in order]
    batch = {key: np.stack([item[key] for item in items]) for key in items[0]}
    assert batch["sample_id"].tolist() == batch["x"][:, 0].tolist() == order.tolist()


def frameworks_after(code):
    """Which other frameworks a fresh interpreter has loaded once it has run `code`."""
    tell = "\nimport json, sys; print(json.dumps([n for n in ('torch', 'tensorflow', 'keras') if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tell], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_import_aum_jax_loads_no_other_framework():
    use = "; aum.jax.to_totals(aum.jax.update(aum.jax.init(2), [[1.0, 2.0]], [0], [1]))"
    assert frameworks_after(f"import aum.jax{use}") == []


def test_another_framework_would_be_seen():
    stand_in = "import sys, types; sys.modules['torch'] = types.ModuleType('torch'); import aum.jax, torch"
    assert frameworks_after(stand_in) == ["torch"]


def test_import_aum_jax_tells_what_it_lacks(tmp_path):
    code = "import sys; sys.modules['jax'] = None; import aum.jax"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: aum.jax needs JAX: pip install 'aum[jax]'"


def test_an_import_error_inside_jax_passes_untouched(tmp_path):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax/__init__.py").write_text("import a_part_that_is_missing")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import aum.jax"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'a_part_that_is_missing'"
