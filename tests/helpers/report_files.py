"""Work directories, as mmengine and our hooks write them."""

import json

import numpy as np

CONFIG = """
model = dict(policy=dict(type='Learned'), note={note!r})
randomness = dict(seed={seed})
train_dataloader = dict(dataset=dict(ann_file={ann_file!r}))
load_from = {load_from!r}
"""


def write_lines(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))


def write_config(
    folder, name, start='1', seed=0, ann_file='train_20.txt', note='',
    load_from=None,
):  # fmt: skip
    """Write a config as mmengine does: by its name, and for each start."""
    text = CONFIG.format(
        seed=seed, ann_file=ann_file, note=note, load_from=load_from
    )
    own = folder / start / 'vis_data' / 'config.py'
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(text)
    (folder / f'{name}.py').write_text(text)


def policy_record(iteration, width=100.0, **statistics):
    timesteps = np.arange(1000)
    probs = np.exp(-0.5 * ((timesteps - 300) / width) ** 2)
    return dict(
        iter=iteration,
        max_iters=180,
        timesteps=timesteps.tolist(),
        probabilities=(probs / probs.sum()).tolist(),
        entropy=1.0,
        **statistics,
    )


def distillation(
    folder, width=100.0, rising=1.0, spread=0.5, falling=1.0, points=18,
    last=180,
):  # fmt: skip
    """Write a run of eighteen logged intervals."""
    write_config(folder, 'repfusion_toy')
    noise = np.random.default_rng(0).normal(0, 0.01, points)
    write_lines(
        folder / '1' / 'vis_data' / 'scalars.json',
        [
            dict(
                loss=1.0, loss_distill=2 - falling * i / 10 + noise[i],
                loss_policy=0.1, reward=rising * i / 10 + noise[i],
                feature_relative_std=spread, epoch=1, iter=10 * i, step=10 * i,
            )
            for i in range(points)
        ],
    )  # fmt: skip
    records = [policy_record(i, width, reward=0.1) for i in (60, 120, last)]
    write_lines(folder / '1' / 'policy.jsonl', records)
    return folder


def finetuning(folder, score, name='resnet18_toy', **settings):
    write_config(folder, name, **settings)
    write_lines(
        folder / '1' / 'vis_data' / 'scalars.json',
        [
            dict(loss=1.0, epoch=1, iter=10, step=10),
            {'accuracy/top1': score, 'data_time': 0.1, 'time': 1, 'step': 10},
        ],
    )
    return folder
