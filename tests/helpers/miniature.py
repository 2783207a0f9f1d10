"""A folder with miniature data and teachers in which every config runs.

The data have the layouts of the real archives, the teachers the classes of
the real ones.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from projects.digits.prepare_data import write_digits
from repfusion_mm.analysis.guided_diffusion_settings import (
    Settings,
    build_scheduler,
)
from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.guided_diffusion.weights import (
    build_denoiser,
    read_architecture,
)
from tests.helpers import layouts
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.pipelines import latent_unet, sd
from tests.helpers.reference_adm import ReferenceADM
from tests.helpers.toy import save_cifar10, save_teacher

#: Batch sizes that give two iterations per epoch.
BATCH = {
    'cifar': 20, 'tiny-imagenet': 10, 'imagenet': 2, 'celebahq': 2,
    'digits': 640, 'latent-digits': 640, 'custom': 4, 'cifar10': 20, 'in1k': 2,
    'celebamask-hq-448x448': 2, 'wflw-256x256': 2,
    'celebamask': 2, 'wflw': 2, 'coco': 2, 'coco-256x192': 2,
}  # fmt: skip


def make_site(site: Path) -> None:
    """Write miniature data/ and teachers/, where configs look for them."""
    data = site / 'data'
    save_cifar10(data / 'cifar10')
    layouts.save_tiny_imagenet(data / 'tiny-imagenet-200')
    converters = 'tools/dataset_converters'
    run_main(f'{converters}/tiny_imagenet.py', data / 'tiny-imagenet-200')
    layouts.save_imagenet(data / 'imagenet')
    layouts.save_celebamask_hq(data / 'CelebAMask-HQ')
    faces = data / 'CelebAMask-HQ'
    run_main(f'{converters}/celebamask_hq.py', faces, '--jobs', 1)
    layouts.save_wflw(data / 'wflw')
    layouts.save_coco(data / 'coco')
    write_digits(data / 'digits')
    for i in range(8):
        layouts.write_image(data / f'mine/{i}.jpg', 80)
    labels = ''.join(f'{i}.jpg {i}\n' for i in range(8))
    (data / 'mine/labels.txt').write_text(labels)

    teachers = site / 'teachers'
    save_teacher(teachers / 'digits', sample_size=16)
    latent_unet.save(teachers / 'latent-digits', 'KL')
    if find_spec('transformers'):  # which not all stacks have
        sd.save(teachers / 'sd21', '2.1', num_levels=4)
    save_teacher(teachers / 'cifar', sample_size=32)
    save_teacher(teachers / 'custom', sample_size=64)
    save_teacher(
        teachers / 'celebahq',
        sample_size=256,
        block_out_channels=(8,) * 6,
        down_block_types=('DownBlock2D',) * 6,
        up_block_types=('UpBlock2D',) * 6,
    )
    small = dict(num_res_blocks=1, head_channels=32)
    for kind, size, order, arguments in (
        ('tiny-imagenet', 64, 'new',
         dict(channel_mult=(1,) * 4, attention_levels=(False,) * 4,
              num_classes=1000)),
        ('imagenet', 256, 'legacy',
         dict(channel_mult=(1,) * 6, attention_levels=(False,) * 6)),
    ):  # fmt: skip
        weights = ReferenceADM(order, **small, **arguments).state_dict()
        # Like the converter, but without its comparison of settings (14 s).
        config = read_architecture(weights, size, small['head_channels'])
        denoiser = build_denoiser(weights, config, order)
        denoiser.save_pretrained(teachers / kind)
        build_scheduler(Settings(order, 'linear')).save_pretrained(
            teachers / kind
        )


def options_for(path):
    """Return options with which a config runs on the miniature data.

    It then runs on a CPU for two iterations.
    """
    cfg = Config.fromfile(path)
    kind = path.stem.split('_')[-1]
    options = {}
    for split in ('train', 'val', 'test'):
        loader = f'{split}_dataloader'
        if cfg.get(loader) is None:
            continue
        options[f'{loader}.num_workers'] = 0
        options[f'{loader}.persistent_workers'] = False
        key, dataset = f'{loader}.dataset', cfg[loader].dataset
        if split == 'train' and 'datasets' in dataset:
            key, dataset = f'{key}.datasets.0', dataset.datasets[0]
        if 'CIFAR10' in dataset.type:
            options[f'{key}.type'] = 'tests.helpers.toy.MiniCIFAR10'
        for index, step in enumerate(dataset.pipeline):
            if step.get('scale') == (1333, 800):  # of mmdet
                options[f'{key}.pipeline.{index}.scale'] = (160, 160)
            if step.type == 'Albumentation':  # needs albumentations
                options[f'{key}.pipeline.{index}.type'] = 'Compose'
                options[f'{key}.pipeline.{index}.transforms'] = []
    options['train_dataloader.batch_size'] = BATCH[kind]
    if cfg.train_cfg.get('max_iters'):
        options['train_cfg.max_iters'] = 2
        options['train_cfg.val_interval'] = 2
        options['default_hooks.checkpoint.interval'] = 2
    else:
        options['train_cfg.max_epochs'] = 1
        if cfg.train_cfg.get('val_interval', 1) > 1:
            options['train_cfg.val_interval'] = 1
        options['default_hooks.checkpoint.interval'] = 1
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper':
        options['optim_wrapper.type'] = 'OptimWrapper'  # AMP needs a GPU
    # An untrained detector may have no score above the threshold, and no box
    # of positive size: RTMDet's distances to the sides may be negative.
    test_cfg = cfg.model.get('test_cfg') or {}
    if test_cfg.get('rcnn'):
        options['model.test_cfg.rcnn.score_thr'] = 0.0
    elif 'score_thr' in test_cfg:
        options['model.test_cfg.score_thr'] = 0.0
        options['model.test_cfg.min_bbox_size'] = -1
    if path.parent.name == 'distill':
        teachers = dict(
            celebamask='celebahq', wflw='celebahq', cifar10='cifar',
            coco='imagenet',
        )  # fmt: skip
        teacher = teachers.get(kind, kind)
        if '-sd21' in path.stem:
            teacher = 'sd21'
        options['model.teacher.pretrained'] = f'teachers/{teacher}'
        options['default_hooks.timestep_policy.num_records'] = 1
        if cfg.get('timestep', '') is None:  # to be set by the user
            options['model.policy.timestep'] = 300
    return options


def distill(name):
    """Run a distillation config; return the path of the student."""
    from repfusion_mm.cli.train import build_runner

    path = ROOT / f'configs/distill/{name}.py'
    options = [f'{key}={value}' for key, value in options_for(path).items()]
    runner = build_runner([str(path), '--cfg-options', *options])
    runner.train()
    assert runner.iter == 2
    return f'work_dirs/{name}/student.pth'


def check_distillation(name, monkeypatch):
    """Distill, and check the student and the batches of the teacher.

    The teacher must get images in [-1, 1]; that of the reference
    implementation gets images with ImageNet's normalization. A latent
    teacher's images are checked as its VAE gets them.
    """
    seen = []
    original = DiffusersTeacher.encode

    def spy(self, images):
        if self.encoder is None:
            seen.append(original(self, images))
            return seen[-1]
        handle = self.encoder.vae.encoder.register_forward_pre_hook(
            lambda _module, inputs: seen.append(inputs[0])
        )
        latents = original(self, images)
        handle.remove()
        return latents

    monkeypatch.setattr(DiffusersTeacher, 'encode', spy)
    student = load_from_local(distill(name))
    assert all(v.isfinite().all() for v in student['state_dict'].values())
    assert seen[-1].min() >= -1 and seen[-1].max() <= 1
    assert seen[-1].min() < -0.5 and seen[-1].max() > 0.5


def finetune(path, site):
    """Train and test a config in a separate folder.

    Args:
        path: A config in configs/finetune. A ``-scratch`` config is copied
            together with the one that it inherits from.
        site: The folder of ``make_site``, which is the working directory.

    Returns:
        The metrics and the log.
    """
    folder = site / path.stem
    folder.mkdir()
    shutil.copy(
        path.with_name(path.name.replace('-scratch', '-repfusion')), folder
    )
    config = shutil.copy(path, folder)
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options_for(path))
    cfg.work_dir = str(folder)
    net = cfg.model.backbone
    init_cfg = net.get('backbone_cfg', net).get('init_cfg')
    if '-repfusion' in path.stem:
        if not (site / init_cfg.checkpoint).exists():
            distill(init_cfg.checkpoint.split('/')[1])
    else:
        assert init_cfg is None
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    return runner.test(), next(folder.glob('*/*.log')).read_text()
