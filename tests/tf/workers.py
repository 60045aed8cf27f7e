"""What each worker of a job does: workers.py FOLDER PORTS RANK. Leaves files for test_workers.py to look at."""

import json
import os
import sys
from pathlib import Path

import numpy as np

folder, ports, rank = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
cluster = {"worker": [f"localhost:{port}" for port in ports]}
os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})

import tensorflow as tf  # noqa: E402 # it reads TF_CONFIG

from aum.tf import AUMState, with_index  # noqa: E402 # as above

NUM_SAMPLES = 30
strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before anything else, says TensorFlow
logits = np.random.default_rng(0).normal(size=(NUM_SAMPLES, 3)).astype(np.float32)
samples = with_index(tf.data.Dataset.from_tensor_slices((logits, np.arange(NUM_SAMPLES) % 3)))


def train_together():
    """Two epochs, the batches of which are split over the workers."""
    with strategy.scope():
        state = AUMState(NUM_SAMPLES)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = strategy.experimental_distribute_dataset(samples.batch(8).with_options(options))

    @tf.function
    def step(batch):
        strategy.run(lambda own: state.update(*own), args=(batch,))

    for _ in range(2):
        for batch in batches:
            step(batch)
    state.to_totals().save(folder / f"together{rank}.npz")


def train_apart():
    """Each worker its own samples, and a state of its own."""
    state = AUMState(NUM_SAMPLES)
    for batch in samples.shard(len(ports), rank).repeat(2).batch(8):
        state.update(*batch)
    (folder / "job").mkdir(exist_ok=True)
    state.to_totals().save(folder / f"job/totals_rank{rank}.npz")


train_together()
train_apart()
