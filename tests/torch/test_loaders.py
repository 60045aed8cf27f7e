"""DatasetWithIndex among PyTorch's own loaders and wrappers."""

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split

from aum.torch import AUMCalculator, DatasetWithIndex


def base(num_samples=20):
    return TensorDataset(torch.arange(num_samples) * 10.0, torch.arange(num_samples) % 3)


def assert_ids_belong_to_their_samples(loader, num_samples):
    seen = []
    for values, targets, ids in loader:
        assert (values == ids * 10.0).all()
        assert (targets == ids % 3).all()
        seen += ids.tolist()
    assert sorted(seen) == list(range(num_samples))


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_with_worker_processes(num_workers):
    dataset = DatasetWithIndex(base())
    assert isinstance(dataset, torch.utils.data.Dataset)
    loader = DataLoader(dataset, batch_size=6, shuffle=True, num_workers=num_workers)
    assert_ids_belong_to_their_samples(loader, 20)


def test_subset_keeps_the_ids_of_the_whole():
    subset = Subset(DatasetWithIndex(base()), [5, 17, 2])
    assert [subset[i][-1] for i in range(3)] == [5, 17, 2]


def test_index_around_a_subset_counts_within_it():
    dataset = DatasetWithIndex(Subset(base(), [5, 17, 2]))
    assert [(item[0].item(), item[-1]) for item in (dataset[i] for i in range(3))] == [(50.0, 0), (170.0, 1), (20.0, 2)]


def test_concat_dataset():
    dataset = DatasetWithIndex(ConcatDataset([base(4), base(3)]))
    assert [dataset[i][-1] for i in range(7)] == list(range(7))
    assert dataset[-1][-1] == 6
    parts = ConcatDataset([DatasetWithIndex(base(4)), DatasetWithIndex(base(3))])
    assert [parts[i][-1] for i in range(7)] == [0, 1, 2, 3, 0, 1, 2]


def test_random_split():
    left, right = random_split(DatasetWithIndex(base()), [15, 5])
    ids = [part[i][-1] for part in (left, right) for i in range(len(part))]
    assert sorted(ids) == list(range(20))


def test_index_from_a_tensor():
    item = DatasetWithIndex(base())[torch.tensor(3)]
    assert item[-1] == 3
    assert type(item[-1]) is int


def test_mappings_collate_with_their_ids():
    items = [{"x": torch.tensor(float(i)), "y": i % 3} for i in range(6)]
    batch = next(iter(DataLoader(DatasetWithIndex(items), batch_size=6)))
    assert batch["sample_id"].tolist() == list(range(6))


def test_training_loop_end_to_end(tmp_path):
    torch.manual_seed(0)
    truth = torch.arange(300) % 3
    features = torch.randn(300, 8) + 5 * torch.eye(3, 8)[truth]
    given = truth.clone()
    given[:15] = (truth[:15] + 1) % 3
    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    calculator = AUMCalculator(tmp_path)
    loader = DataLoader(DatasetWithIndex(TensorDataset(features, given)), batch_size=32, shuffle=True)
    for _ in range(5):
        for inputs, targets, ids in loader:
            logits = model(inputs)
            calculator.accumulate(logits, targets, ids)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, targets).backward()
            optimizer.step()
    worst = calculator.totals.sample_ids[calculator.totals.aums.argsort()[:15]]
    assert sorted(worst.tolist()) == list(range(15))
