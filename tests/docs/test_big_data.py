"""The examples of merging on an engine, in miniature: the bytes of `aum merge`, from the files as they are."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from aum.command.cli import main
from aum.parquet import RecordsOnDisk
from aum_core import AUMCalculator, Totals

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/big_data"
ENGINES = {"duckdb": ["--memory", "300MB"], "dask": ["--parts", "3"]}


@pytest.fixture(scope="module", params=["rows", "strings"])
def job(request, tmp_path_factory):
    """Three ranks that have measured uneven parts of two thousand samples, some with tied AUMs, with records."""
    folder = tmp_path_factory.mktemp("job")
    generator = np.random.default_rng(0)
    for rank in range(3):
        log = partial(RecordsOnDisk, save_dir=folder, rank=rank, num_ranks=3, part_size=1500)
        calculator = AUMCalculator(folder, compressed=False, log=log)
        for _ in range(2):
            rows = generator.permutation(2000)[: 900 + 200 * rank]
            ids = rows if request.param == "rows" else [f"image {row}, \N{SNOWMAN}.png" for row in rows.tolist()]
            logits = (generator.normal(size=(len(rows), 3)) * 8).astype(np.float32).round(1)
            calculator.accumulate(logits, generator.integers(0, 3, len(rows)), ids)
        calculator.records.flush()
        calculator.totals.save(folder / f"totals_rank{rank}.npz")
    assert main(["merge", str(folder), "--out", str(folder / "merged")]) == 0
    assert main(["export", str(folder), "--out", str(folder / "exported")]) == 0
    return folder


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("files", ["exported", "records"])
def test_an_engine_writes_the_bytes_of_aum_merge(job, engine, files, tmp_path):
    words = [EXAMPLES / f"with_{engine}.py", job / files, "--out", tmp_path / "out", *ENGINES[engine]]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ranking = b"".join(path.read_bytes() for path in sorted((tmp_path / "out").glob("aum_values*.csv")))
    assert ranking == (job / "merged/aum_values.csv").read_bytes()
    totals = [str(path) for path in sorted((tmp_path / "out").rglob("*.parquet"))]
    assert main(["merge", *totals, "--out", str(tmp_path / "back")]) == 0
    back, whole = Totals.load(tmp_path / "back/totals.npz"), Totals.load(job / "merged/totals.npz")
    assert back.sample_ids.tolist() == whole.sample_ids.tolist()
    np.testing.assert_array_equal(back.sums, whole.sums)
    np.testing.assert_array_equal(back.counts, whole.counts)
