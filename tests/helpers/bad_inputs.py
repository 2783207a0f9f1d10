"""Wrong inputs, and what their error must contain."""

import os
import shutil

import cv2
import numpy as np
from PIL import Image

PARTS = 'train_dataloader.dataset.datasets'
WEIGHTS = 'diffusion_pytorch_model.safetensors'


def damage(path, size):
    return lambda folder: os.truncate(folder / path, size)


def write(path, content):
    return lambda folder: (folder / path).write_bytes(content)


def replace(path, old, new):
    def edit(folder):
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new))

    return edit


def remove(path):
    def edit(folder):
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return edit


def damage_all(folder):
    for path in (folder / 'images').glob('*.jpg'):
        path.write_bytes(b'')


def empty(folder):
    for path in (folder / 'images').glob('*.jpg'):
        path.unlink()


def image(size, channels=3):
    """Replace the first image by a black one."""

    def edit(folder):
        written = folder / 'other.png'
        array = np.zeros((size, size, channels), np.uint8)
        cv2.imwrite(str(written), array)
        written.rename(folder / 'images/0.jpg')

    return edit


def not_finite(folder):
    """Replace the first image by a TIFF of NaN values."""
    pixels = Image.fromarray(np.full((16, 16), np.nan, np.float32))
    pixels.save(folder / 'images/0.jpg', format='TIFF')


def of_16_bits(largest):
    """Replace the first image by a PNG of 16 bits a channel."""

    def edit(folder):
        written = folder / 'other.png'
        values = np.linspace(0, largest, 768).reshape(16, 16, 3)
        cv2.imwrite(str(written), values.astype(np.uint16))
        written.rename(folder / 'images/0.jpg')

    return edit


#: A feed-forward teacher. FOLDER in an option is the folder of the inputs.
TIMM = [
    'model.teacher.type=repfusion_mm.TimmTeacher',
    'model.teacher.model=vit_tiny_patch16_224', 'model.teacher.layers=[0]',
    'model.teacher.model_args.depth=1', 'model.teacher.input_size=16',
    'model.teacher.pretrained=False',
]  # fmt: skip
#: Name: options, the change to the inputs, fragments of the last line.
ROWS = {
    # Configs.
    'unknown layer': (
        ['model.teacher.layers=["mid_block.nope"]'], None,
        ['modules of the denoiser', 'mid_block.nope', 'did you mean']),
    'typo in a key': (
        ['model.teacher.layer=x'], None,
        ['DiffusersTeacher', "unexpected keyword argument 'layer'",
         "in model.teacher.layer; did you mean 'layers'?"]),
    'typo in a connector': (
        ['model.connector.type=repfusion_mm.FeatureRegressor',
         'model.connector.channel=8'], None,
        ["keyword argument 'channel'",
         "in model.connector.channel; did you mean 'channels'?"]),
    'typo at the top': (
        ['train_dataloder.batch_size=3'], None,
        ["'train_dataloder.batch_size'", 'mean train_dataloader?']),
    'a name that nothing reads': (
        ['seed=3'], None, ["'seed'", 'nothing would read', 'randomness']),
    'typo in a type': (
        ['model.student.type=mmpretrain.ResNet_CIFARR'], None,
        ['ResNet_CIFARR', 'registry',
         "in model.student.type; did you mean 'ResNet_CIFAR'?"]),
    'a type without its scope': (
        ['model.distill_loss.type=HintLoss'], None,
        ["in model.distill_loss.type; did you mean "
         "'repfusion_mm.HintLoss'?"]),
    'a hook without its scope': (
        ['default_hooks.export_student.type=ExportStudentHook'], None,
        ["did you mean 'repfusion_mm.ExportStudentHook'?"]),
    'typo in a schedule': (
        ['param_scheduler.student.T_maxx=3'], None,
        ["in param_scheduler.student.T_maxx; did you mean 'T_max'?"]),
    'key of a data loader of OpenMMLab 1.x': (
        ['train_dataloader.samples_per_gpu=3'], None,
        ["'samples_per_gpu'", 'in train_dataloader']),
    'wrong type, policy': (
        ['model.policy.entropy_weight=big'], None,
        ['policy.entropy_weight', "'big'", 'a number']),
    'wrong type, timestep': (
        ['model.policy.low=abc'], None,
        ['policy.low', "'abc'", 'an integer']),
    'wrong start method': (
        ['env_cfg.mp_cfg.mp_start_method=forkk'], None,
        ['env_cfg.mp_cfg.mp_start_method', 'spawn', "'forkk'"]),
    'wrong type, rate': (
        ['optim_wrapper.student.optimizer.lr=fast'], None,
        ['optim_wrapper.student.optimizer.lr', "'fast'", 'a number']),
    'negative rate': (
        ['optim_wrapper.student.optimizer.lr=-1'], None,
        ['optim_wrapper.student.optimizer.lr', 'got -1', '0 or more']),
    'student that is not trained': (
        ['optim_wrapper.student.optimizer.lr=0.0'], None,
        ['optim_wrapper.student.optimizer.lr', 'a learning rate above 0']),
    'optimizer of no part': (
        ['optim_wrapper.studnet.optimizer.lr=0.1'], None,
        ["'studnet'", "'student'", 'correct the name']),
    'no cosines': (
        ['model.policy.num_cosines=0'], None,
        ['model.policy.num_cosines', 'got 0', '1 or more']),
    'negative weight of the loss': (
        ['model.distill_loss.loss_weight=-1'], None,
        ['model.distill_loss.loss_weight', 'got -1', 'above 0']),
    'pyramid above the last map': (
        ['model.connector.type=repfusion_mm.FeatureRegressor',
         'model.connector.pool_scales=[1,99]'], None,
        ['model.connector.pool_scales', 'got [1, 99]', 'leave out']),
    'unknown normalizer': (
        ['model.normalizer=batch_norm'], None,
        ['model.normalizer', "'batch_norm'", "'phi_s'", 'correct it']),
    'statistics of one image': (
        ['model.normalizer.type=repfusion_mm.PHISNormalizer',
         'model.normalizer.num_images=1'], None,
        ['model.normalizer.num_images', 'got 1', '2 or more']),
    'channels without a Hadamard matrix': (
        ['model.normalizer=phi_s',
         'model.teacher.layers=[conv_out]'], None,
        ['Hadamard', 'PHISNormalizer', 'got 3',
         "model.normalizer='standardize'"]),
    'normalizer without effect on the loss': (
        ['model.normalizer=phi_s', 'model.distill_loss._delete_=True',
         'model.distill_loss.type=repfusion_mm.RelationalLoss'], None,
         ['PHISNormalizer for RelationalLoss',
               "model.normalizer='standardize'"]),
    'wrong type, classes': (
        ['model.decoder.num_classes=ten'], None,
        ['model.decoder.num_classes', "'ten'", 'correct it']),
    'wrong length': (
        [f'{PARTS}.{i}.pipeline.1.crop_size=[1,2,3]' for i in (0, 1)], None,
        ['AssertionError: assert ', 'crop_size']),
    'typo in a hook': (
        ['default_hooks.checkpoint.intervall=3'], None,
        ["'intervall'", 'default_hooks.checkpoint']),
    'typo in the environment': (
        ['env_cfg.cudnn_benchmak=True'], None,
        ['env_cfg.cudnn_benchmak', 'nothing would read']),
    'wrong type, batch': (
        ['train_dataloader.batch_size=x'], None,
        ['train_dataloader.batch_size', "got 'x'", 'correct it']),
    'policy without decoder': (
        ['model.decoder=None'], None, ['expected a decoder', 'add model']),
    # Data.
    'corrupt JPEG': (
        [], write('images/0.jpg', b'\xff\xd8\xff not an image'),
        ['images/0.jpg', 'fix or remove']),
    'truncated JPEG': (
        [], damage('images/0.jpg', 150), ['images/0.jpg', 'fix or remove']),
    'empty file': (
        [], write('images/0.jpg', b''), ['images/0.jpg', 'fix or remove']),
    'pipeline that does not pack': (
        [f'{PARTS}.{i}.pipeline.2.type=mmpretrain.RandomGrayscale'
         for i in (0, 1)], None, ['end the pipeline with PackInputs']),
    'pixels that are NaN': (
        [f'{PARTS}.{i}.pipeline.0.color_type=unchanged' for i in (0, 1)],
        not_finite,
        ['images/0.jpg', 'NaN or Inf', 'fix or remove']),
    'mean and std of images in 0 to 1': (
        ['model.data_preprocessor.mean=[0.5,0.5,0.5]',
         'model.data_preprocessor.std=[0.5,0.5,0.5]'], None,
        ['[0, 255]', 'std=[0.5', 'multiply mean and std by 255']),
    'images of 16 bits': (
        [f'{PARTS}.{i}.pipeline.0.color_type=unchanged' for i in (0, 1)],
        of_16_bits(60_000), ['more than 8 bits', 'color_type']),
    'images of 12 bits': (
        [], of_16_bits(4095),
        ['images/0.jpg', 'keeps 16 of 25', 'value * 255 / 4095']),
    'exchanged channels': (
        ['model.data_preprocessor.bgr_to_rgb=False',
         'model.channel_order=rgb'], None,
        ['blue for red', 'return bgr', "model.channel_order='bgr'"]),
    'empty folder': (
        [f'{PARTS}.0.ann_file='], empty,
        ['Found 0 files', 'images', 'Supported extensions']),
    'no folder': ([], remove('images'), ['images', 'correct the path']),
    'image smaller than the crop': (
        [], image(8),
        ['images/0.jpg', '(10, 10)', 'resize them in the pipeline']),
    'no list of labels': (
        [], remove('images/labels.txt'), ['labels.txt', 'correct the path']),
    'label out of range': (
        [], replace('images/labels.txt', '0.jpg 0', '0.jpg 99'),
        ['[0, 9]', '[99]', 'images/0.jpg', 'model.decoder.num_classes']),
    'negative label': (
        [], replace('images/labels.txt', '0.jpg 0', '0.jpg -3'),
        ['[0, 9]', '[-3]', 'images/0.jpg', 'model.decoder.num_classes']),
    'label that is not a number': (
        [], replace('images/labels.txt', '0.jpg 0', '0.jpg cat'),
        ["'0.jpg cat' in line 1", 'images/labels.txt',
         'labels are integers']),
    'label that is missing': (
        [], replace('images/labels.txt', '0.jpg 0', '0.jpg'),
        ["'0.jpg' in line 1", 'images/labels.txt',
         'labels are integers']),
    'empty list of labels': (
        [], write('images/labels.txt', b''),
        ['images/labels.txt', 'an empty file']),
    'list of labels that is not text': (
        [], write('images/labels.txt', b'0.jpg \xd0\xff'),
        ["can't decode", 'images/labels.txt', 'UTF-8']),
    'label without image': (
        [], remove('images/0.jpg'), ['images/0.jpg', 'correct the list']),
    'missing dataset': (
        [f'{PARTS}.5.data_root=x'], None,
        [f'{PARTS}.5.data_root', 'Index 5', 'correct the keys']),
    'proportions of other parts': (
        ['train_dataloader.sampler.proportions=[1,1,1]'], None,
        ['2 positive proportions', '(1, 1, 1)',
         'correct train_dataloader.sampler.proportions']),
    'an epoch of nothing': (
        ['train_dataloader.sampler.num_samples=-5'], None,
        ['train_dataloader.sampler.num_samples', 'got -5']),
    'every image damaged': (
        [f'{PARTS}.0.pipeline.0.on_error=skip'], damage_all,
        ['200 in a row', 'images/', 'fix or remove']),
    'decoder that is not installed': (
        [f'{PARTS}.{i}.pipeline.0.imdecode_backend=turbojpeg' for i in (0, 1)],
        None, ['PyTurboJPEG', 'install that package']),
    # Teachers.
    'truncated weights': (
        [], damage(f'teacher/{WEIGHTS}', 100_000),
        ['teacher', 'download the folder again']),
    'no weights': (
        [], remove(f'teacher/{WEIGHTS}'),
        ['teacher', 'download the folder again']),
    'missing shard': (
        [], write(f'teacher/{WEIGHTS}.index.json',
                  b'{"weight_map": {"conv_in.bias": "second.safetensors"}}'),
        ['teacher', "['second.safetensors']", 'download the folder again']),
    'wrong channels': (
        [], replace(
            'teacher/config.json', '"out_channels": 3', '"out_channels": 4'),
        ['teacher', 'config.json', 'download the folder again']),
    'wrong architecture': (
        [], replace('teacher/config.json', 'UNet2DModel', 'ResNet50'),
        ['a diffusers model', "'ResNet50'", 'UNet2DModel']),
    'damaged schedule': (
        [], write('teacher/scheduler_config.json', b'{'),
        ['teacher', 'scheduler_config.json', 'download the folder again']),
    'schedule of another family': (
        [], write('teacher/scheduler_config.json',
                  b'{"_class_name": "EDMEulerScheduler"}'),
        ['DDPM family', 'EDMEulerScheduler', 'model.teacher.scheduler']),
    'schedule of no class': (
        [], replace('teacher/scheduler_config.json', '_class_name', 'name'),
        ['_class_name', 'scheduler_config.json', 'teacher']),
    'denoiser of no size': (
        [], replace('teacher/config.json', '"sample_size": 16',
                    '"sample_size": [16, 8, 3]'),
        ['sample_size', '[16, 8, 3]', 'teacher.input_size']),
    'folder of two parts': (
        ['model.teacher.pretrained=projects/nothing'], None,
        ['projects/nothing', 'no such folder']),
    'no teacher': (
        [], remove('teacher'), ['teacher', 'no such folder', 'set model']),
    'hub unreachable': (
        ['model.teacher.pretrained=nobody/nothing'], None,
        ['nobody/nothing', 'hf download', 'model.teacher.pretrained']),
    'unknown model of timm': (
        [*TIMM, 'model.teacher.model=vit_tiny_patch61_224'], None,
        ['model.teacher.model', "got 'vit_tiny_patch61_224'",
         "did you mean 'vit_tiny_patch16_224'"]),
    'size of three sides': (
        ['model.input_size=[16,16,16]'], None,
        ['model.input_size', 'height and width', 'got [16, 16, 16]']),
    'side that is not a multiple of the patch': (
        [*TIMM, 'model.teacher.input_size=20'], None,
        ['model.teacher.input_size', 'multiple of 16', 'got 20',
         'set it to 16 or 32']),
    'layer out of range': (
        [*TIMM, 'model.teacher.layers=[1]'], None,
        ['model.teacher.layers', 'the 1 layers', "did you mean 'blocks.0'"]),
    'learned policy of a feed-forward teacher': (
        TIMM, None,
        ['FixedTimestepPolicy', 'got LearnedTimestepPolicy', 'set model']),
    'weights of another model': (
        [*TIMM, f'model.teacher.pretrained=FOLDER/teacher/{WEIGHTS}'], None,
        ['the weights of vit_tiny_patch16_224', 'another model',
         'Missing key', 'model.teacher.pretrained']),
    'weights of timm without a network': (
        [*TIMM, 'model.teacher.pretrained=True'], None,
        ['hf download timm/vit_tiny_patch16_224', 'model.teacher.pretrained']),
    # Training.
    'loss not finite': (
        ['optim_wrapper.student.optimizer.lr=1e30',
         'default_hooks.finite_loss.interval=4',
         'train_cfg.max_epochs=2'], None,
        ['loss_distill not finite in iteration', 'last good checkpoint',
         'lower the learning rate']),
    'weights not finite': (
        ['optim_wrapper.student.optimizer.lr=1e38',
         'optim_wrapper.student.optimizer.weight_decay=1e38',
         'train_dataloader.sampler.num_samples=4'], None,
        ['finite weights', 'after iteration 1 of 1', 'learning rate']),
    'no labels': (
        [f'{PARTS}.0.with_label=False'], None,
        ['expected labeled images', 'give labels']),
    'batches of one': (
        ['train_dataloader.batch_size=1'], None,
        ['two images or more', 'batch_size=1']),
    'last batch of one': (
        ['train_dataloader.batch_sampler.drop_last=False',
         'train_dataloader.sampler.num_samples=9'], None,
        ['9 images in batches of 4', 'drop_last=True']),
    'fewer images than a batch': (
        ['train_dataloader.batch_size=100'], None,
        ['100 images, got 24 images', 'lower train_dataloader.batch_size']),
}  # fmt: skip
