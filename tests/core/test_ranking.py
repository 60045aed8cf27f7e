"""The fast ranking against the engine's: the same bytes, whatever the ids and AUMs."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aum import _ranking
from aum._ranking import write_ranking
from aum_core.files.tables import write_aum_values

sample_ids = st.integers(-(2**80), 2**80) | st.text(max_size=4) | st.sampled_from(["a,b", '"', "\r", "", "\udcff.png"])
texts = st.lists(st.text(max_size=4))


@pytest.fixture(autouse=True)
def no_ranking_is_small(monkeypatch):
    monkeypatch.setattr(_ranking, "_SMALL", 0)
    monkeypatch.setattr(_ranking, "_LINES", 1000)


def objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def assert_same_bytes(folder, ids, aums):
    write_ranking(folder / "fast.csv", ids, aums)
    write_aum_values(folder / "engine.csv", ids, aums)
    assert (folder / "fast.csv").read_bytes() == (folder / "engine.csv").read_bytes()


def near(value):
    """A power of ten and the floats around it, where the way of writing may change."""
    return [np.nextafter(value, 0), value, np.nextafter(value, np.inf)]


def test_floats_of_all_sizes(pyarrow, tmp_path):
    generator = np.random.default_rng(0)
    powers = 10.0 ** np.arange(-323, 309)
    scattered = generator.uniform(1, 10, (40, 60)) * 10.0 ** np.arange(-30, 30)
    values = [*map(near, powers), scattered, scattered.astype(np.float32), scattered.round(), scattered.round(2)]
    values += [generator.integers(0, 2**64, 200_000, dtype=np.uint64).view(np.float64)]
    aums = np.concatenate([np.ravel(each) for each in values])
    aums = np.concatenate([aums, -aums, [0.0, -0.0, np.nan, np.inf, -np.inf]])
    assert_same_bytes(tmp_path, np.arange(len(aums)) * 7919 - 5, aums)


@pytest.mark.usefixtures("pyarrow")
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(sample_ids, st.floats())))
@example([("\udcff.png", 1.0), ("plain", 2.0)])
@example([("\ud83d.png", 1.0), ("plain", 2.0)])
@example([("line\nbreak", np.nan), ('say "hi"', 1e10), (2**70, -1e-5)])
def test_ids_of_all_kinds(tmp_path_factory, rows):
    ids, aums = objects([each for each, _ in rows]), np.array([aum for _, aum in rows], dtype=float)
    assert_same_bytes(tmp_path_factory.mktemp("ranking"), ids, aums)


def test_texts_in_several_parts(pyarrow, tmp_path):
    ids = [f"image {i}.png" if i % 3 else f"image {i},\N{SNOWMAN}" for i in range(4500)]
    assert_same_bytes(tmp_path, objects(ids), np.random.default_rng(0).normal(size=len(ids)))


def test_small_rankings_do_not_import_pyarrow(pyarrow, tmp_path):
    code = f"""
import sys, numpy as np
from aum._ranking import write_ranking
write_ranking({str(tmp_path / "aum.csv")!r}, np.arange(1000), np.ones(1000))
assert "pyarrow" not in sys.modules
write_ranking({str(tmp_path / "aum.csv")!r}, np.arange(100_000), np.ones(100_000))
assert "pyarrow" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_pyarrow_the_engine_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write_ranking(tmp_path / "aum.csv", np.array([1, 2]), np.array([1.0, 2.0]))
    assert (tmp_path / "aum.csv").read_text() == "sample_id,aum\n2,2.0\n1,1.0\n"
