"""Work directories as mmengine and our hooks write them."""

import json

import cv2
import numpy as np
import torch

from repfusion_mm.analysis.probe import Measurement, write_table
from repfusion_mm.models.policies.reward_table import RewardTable

CONFIG = """
model = dict(
    type={model!r},
    policy=dict(type='Learned'),
    note={note!r},
    backbone={backbone},
)
randomness = dict(seed={seed})
train_dataloader = dict(dataset=dict(ann_file={ann_file!r}))
load_from = {load_from!r}
"""


def write_lines(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))


def write_config(
    folder, name, start='1', seed=0, ann_file='train_20.txt', note='',
    load_from=None, model='RepFusion', checkpoint=None,
    backbone='dict(depth=18)', **settings,
):  # fmt: skip
    """Write a config as mmengine does: once by name, once for each start."""
    if checkpoint:
        backbone = f'dict(depth=18, init_cfg=dict(checkpoint={checkpoint!r}))'
    text = CONFIG.format(
        seed=seed, ann_file=ann_file, note=note, load_from=load_from,
        model=model, backbone=backbone,
    )  # fmt: skip
    text += ''.join(f'{key} = {value!r}\n' for key, value in settings.items())
    own = folder / start / 'vis_data' / 'config.py'
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(text)
    (folder / f'{name}.py').write_text(text)


def policy_record(iteration, mode=300, width=100.0, step=1, **statistics):
    """Return a record with a Gaussian distribution around ``mode``."""
    timesteps = np.arange(0, 1000, step)
    probs = np.exp(-0.5 * ((timesteps - mode) / width) ** 2)
    return dict(
        iter=iteration,
        timesteps=timesteps.tolist(),
        probabilities=(probs / probs.sum()).tolist(),
        **statistics,
    )


def write_probe(path, scores):
    """Write the table of a probe with these scores by timestep."""
    measurements = {
        ('clean', 'mid', timestep): Measurement(
            np.full(4, score), (score, score - 0.1, score + 0.1), score,
            np.zeros(9),
        )
        for timestep, score in scores.items()
    }  # fmt: skip
    write_table(measurements, path)


def reward_table(num_rewards, num_above):
    """Return a record's table of one batch, with these rewards in ranges."""
    num_ranges = len(num_rewards)
    table = RewardTable(num_ranges)
    actions = torch.arange(num_ranges).repeat_interleave(
        torch.tensor(num_rewards)
    )
    above = [
        index < high
        for count, high in zip(num_rewards, num_above)
        for index in range(count)
    ]
    above = torch.tensor(above, dtype=torch.bool)
    table.add(actions, above, torch.ones_like(above))
    return table.pop()


def count_shares(shares, num_each=100):
    """Return the table of a record with these shares of high rewards."""
    above = [round(share * num_each) for share in shares]
    return reward_table([num_each] * len(shares), above)


def distillation(
    folder, width=100.0, rise=1.0, relative_std=0.5, fall=1.0, points=18,
    last=180, shares=(0.6, 0.4), explained=0.43,
):  # fmt: skip
    """Write a distillation of 180 iterations.

    Args:
        folder: The work directory.
        width: Standard deviation of the policy in timesteps.
        rise: Increase of the reward in ten points.
        relative_std: Of the teacher's features between images.
        fall: Decrease of the distillation loss in ten points.
        points: Number of logged points.
        last: Iteration of the last record of the policy.
        shares: Of the rewards above their batch's mean, in ranges of t.
        explained: Share of the variance that the student explains.
    """
    write_config(folder, 'repfusion_toy')
    noise = np.random.default_rng(0).normal(0, 0.01, points)
    write_lines(
        folder / '1' / 'vis_data' / 'scalars.json',
        [
            dict(
                loss=1.0, loss_distill=2 - fall * i / 10 + noise[i],
                loss_policy=0.1, reward=rise * i / 10 + noise[i],
                feature_relative_std=relative_std, epoch=1, iter=10 * i,
                step=10 * i,
            )
            for i in range(points)
        ],
    )  # fmt: skip
    statistics = dict(
        width=width, max_iters=180, reward=0.1, entropy=1.0,
        explained_variance=explained, **count_shares(shares),
    )  # fmt: skip
    records = [policy_record(i, **statistics) for i in (60, 120, last)]
    write_lines(folder / '1' / 'policy.jsonl', records)
    return folder


def finetuning(
    folder, score, name='resnet18_toy', metric='accuracy/top1', **settings
):
    """Write a finetuning with one validation."""
    write_config(folder, name, **settings)
    write_lines(
        folder / '1' / 'vis_data' / 'scalars.json',
        [
            dict(loss=1.0, epoch=1, iter=10, step=10),
            {metric: score, 'data_time': 0.1, 'time': 1, 'step': 10},
        ],
    )
    return folder


def teacher(folder, points=20, fall=1.0, pictures=(100, 200), **settings):
    """Write the training of a teacher of 200 iterations."""
    defaults = dict(
        model='repfusion_mm.DenoisingDiffusion',
        train_cfg=dict(by_epoch=False, max_iters=200),
        custom_hooks=[
            dict(type='EMAHook'),
            dict(type='repfusion_mm.ExportDiffusersHook', filename='ddpm'),
        ],
    )
    write_config(folder, 'ddpm_toy', **{**defaults, **settings})
    logged = [
        dict(loss=1 - fall * i / 100, time=0.25, step=10 * i, iter=10 * i)
        for i in range(1, points + 1)
    ]
    start = folder / '1' / 'vis_data'
    write_lines(start / 'scalars.json', logged)
    for iteration in pictures:
        path = start / 'vis_image' / f'samples_{iteration}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 8, 3), iteration, np.uint8))
    return folder
