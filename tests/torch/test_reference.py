"""The promises to people who come from PyPI `aum` 1.0.2."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aum import AUMCalculator, AUMRecord, DatasetWithIndex

GOLDEN = Path(__file__).parents[1] / "golden"
STREAMS = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


def batches_of(stream):
    with np.load(GOLDEN / stream / "stream.npz") as file:
        ends = np.cumsum(file["batch_sizes"])[:-1]
        columns = [np.split(file[name], ends) for name in ("logits", "targets", "sample_ids")]
    for logits, targets, sample_ids in zip(*columns, strict=True):
        yield torch.from_numpy(logits), torch.from_numpy(targets), sample_ids.tolist()


def test_all_streams_are_there():
    assert STREAMS == [
        "float32_int_ids",
        "float32_str_ids",
        "float64_int_ids",
        "repeated_ids_in_a_batch",
        "short_last_batch_of_two",
        "sparse_int_ids",
    ]


@pytest.mark.parametrize("method", ["update", "accumulate"])
@pytest.mark.parametrize("stream", STREAMS)
def test_files_are_the_reference_bytes(tmp_path, stream, method):
    calculator = AUMCalculator(str(tmp_path), compressed=False)
    for batch in batches_of(stream):
        getattr(calculator, method)(*batch)
    calculator.finalize()
    for name in ("aum_values.csv", "full_aum_records.csv"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / stream / name).read_bytes(), name


@pytest.mark.parametrize("stream", STREAMS)
def test_compressed_ranking_is_the_reference_bytes(tmp_path, stream):
    calculator = AUMCalculator(str(tmp_path))
    for batch in batches_of(stream):
        calculator.accumulate(*batch)
    calculator.finalize()
    assert (tmp_path / "aum_values.csv").read_bytes() == (GOLDEN / stream / "aum_values.csv").read_bytes()
    assert not (tmp_path / "full_aum_records.csv").exists()


@pytest.mark.parametrize("stream", STREAMS)
def test_first_two_updates_return_the_reference_records(tmp_path, stream):
    expected = json.loads((GOLDEN / stream / "first_two_updates.json").read_text())
    calculator = AUMCalculator(str(tmp_path), compressed=False)
    for batch, records in zip(batches_of(stream), expected, strict=False):
        returned = calculator.update(*batch)
        assert type(returned) is dict
        assert [vars(record) for record in returned.values()] == records
        assert [repr(record) for record in returned.values()] == [repr(AUMRecord(**record)) for record in records]


def test_seed_example_of_its_readme_runs_unchanged(tmp_path):
    save_dir = tmp_path
    num_samples, num_classes = 8, 3
    torch.manual_seed(0)
    dataset = torch.utils.data.TensorDataset(torch.randn(num_samples, 5), torch.randint(num_classes, (num_samples,)))
    model = torch.nn.Linear(5, num_classes)

    aum_calculator = AUMCalculator(save_dir, compressed=False)
    train_set = DatasetWithIndex(dataset)
    for batch in torch.utils.data.DataLoader(train_set, batch_size=4):
        inputs, targets, sample_ids = batch  # sample_ids come out of the loader as a tensor
        logits = model(inputs)
        records = aum_calculator.update(logits, targets, sample_ids)
        assert {type(each) for each in records} == {int}
        assert list(records) == sample_ids.tolist()
    aum_calculator.finalize()
    assert len((tmp_path / "aum_values.csv").read_text().splitlines()) == 1 + num_samples
    assert len((tmp_path / "full_aum_records.csv").read_text().splitlines()) == 1 + num_samples


def test_attributes_are_those_of_the_reference(tmp_path):
    calculator = AUMCalculator(str(tmp_path), compressed=False)
    assert (calculator.save_dir, calculator.compressed) == (str(tmp_path), False)
    logits = torch.tensor([[1.0, 3.0]])
    record = calculator.update(logits, torch.tensor([0]), ["a"])["a"]
    assert (dict(calculator.counts), dict(calculator.sums)) == ({"a": 1}, {"a": -2.0})
    assert list(calculator.records) == [record] == [AUMRecord("a", 1, 0, 1.0, 1, 3.0, -2.0, -2.0)]


def test_records_to_df_has_the_columns_of_the_reference(tmp_path):
    calculator = AUMCalculator(str(tmp_path), compressed=False)
    records = calculator.update(torch.tensor([[1.0, 3.0]]), torch.tensor([0]), [4])
    frame = AUMCalculator.records_to_df(records.values())
    assert frame.to_dict("records") == [vars(records[4])]
    assert list(frame.columns) == list(vars(records[4]))
