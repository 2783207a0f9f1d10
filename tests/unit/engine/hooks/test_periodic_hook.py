from pathlib import Path

from mmengine.registry import VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from tests.helpers.memory_run import teacher_config


@VISBACKENDS.register_module()
class FileNameBackend(LocalVisBackend):
    """Refuse names without an extension, as mmengine's MLflowVisBackend."""

    def add_image(self, name, image, step=0, **kwargs):
        if '.' not in name:
            raise ValueError('unknown file extension: ')


def test_a_backend_that_refuses_a_picture_does_not_stop_the_run(tmp_path):
    hook = dict(
        type='repfusion_mm.SampleImagesHook', num_images=1, num_steps=1
    )
    cfg = teacher_config(tmp_path, [hook])
    cfg.visualizer.vis_backends.insert(0, dict(type='FileNameBackend'))
    runner = Runner.from_cfg(cfg)
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert "'samples' is not in FileNameBackend" in log
    assert 'unknown file extension' in log
    assert list(Path(runner.log_dir).rglob('samples_*.png'))
