"""The studies of projects/, and short runs of them."""

from pathlib import Path

from projects.camvid.study import CamvidStudy
from projects.cifar10.study import Cifar10Study
from projects.digits.ablation import AblationStudy
from projects.digits.study import DigitsStudy
from projects.faces.study import FacesStudy
from projects.study import runs
from tests.helpers.launcher import ROOT

STUDIES = (
    DigitsStudy, AblationStudy, Cifar10Study, CamvidStudy, FacesStudy,
)  # fmt: skip


def shorten_runs(monkeypatch) -> None:
    """Shorten pretraining and finetuning to two iterations of four images."""
    build_runner = runs.build_runner

    def build_short_runner(argv):
        options = ['train_dataloader.batch_size=4']
        if Path(argv[0]).parent.name == 'distill':  # digits: epochs
            options += [
                'train_cfg.max_epochs=1',
                'train_dataloader.sampler.num_samples=8',
            ]
        else:
            options.append('train_cfg.max_iters=2')
        if any(option.startswith('train_cfg.val_int') for option in argv):
            options.append('train_cfg.val_interval=2')
        return build_runner([*argv, *options])

    monkeypatch.setattr(runs, 'build_runner', build_short_runner)


def enter(folder: Path, monkeypatch) -> None:
    """Change to a folder that has the projects of the checkout."""
    (folder / 'projects').symlink_to(ROOT / 'projects')
    monkeypatch.chdir(folder)


def check_methods(study, num_labels, seed=0):
    """Score all methods with one number of labels; return the scores."""
    study.probe_grid = (0, 500, 999)
    scores = {
        name: study.score(name, num_labels, seed) for name in study.methods
    }
    timesteps = {name: score.timestep for name, score in scores.items()}
    for name, score in scores.items():
        assert score[:3] == (name, num_labels, seed)
        assert score.score >= 0
    assert (timesteps['fixed_first'], timesteps['fixed_last']) == (0, 999)
    assert timesteps['scratch'] is timesteps['uniform'] is None
    assert timesteps['fixed_best'] in study.probe_grid
    assert 300 < timesteps['learned'] < 700  # still uniform
    return scores
