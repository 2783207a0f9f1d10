"""Models are built without memory; only weights that are kept are read."""

import os
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import diffusers
import pytest
import torch
import torch.nn as nn
from mmengine.logging import MMLogger
from safetensors.torch import load_file, save_file

from repfusion_mm.models.teachers.families import find_family
from repfusion_mm.models.teachers.loading.weights import (
    build_empty,
    load_weights,
    locate_weights,
    select_weights,
)
from tests.helpers.diffusers_models import (
    DENOISERS,
    IMAGE_ENCODERS,
    build_model,
    call_model,
)

ROOT = Path(__file__).parents[4]
FILE = 'diffusion_pytorch_model.safetensors'


def save_model(folder, name='DiTTransformer2DModel', **options):
    build_model(name).save_pretrained(folder, **options)
    return getattr(diffusers, name)


def empty(cls, folder):
    return build(cls, cls.load_config(folder))


def build(cls, config):
    with torch.device('meta'):
        meta_model = cls.from_config(config)
    return build_empty(cls, config, meta_model)


@pytest.mark.parametrize('name', [*DENOISERS, *IMAGE_ENCODERS])
def test_a_model_is_the_one_that_from_pretrained_gives(name, tmp_path):
    cls = save_model(tmp_path, name)
    theirs = cls.from_pretrained(tmp_path)
    ours = empty(cls, tmp_path)
    assert all(value.is_meta for value in ours.parameters())
    load_weights(ours, locate_weights(ours, tmp_path))
    for kind in ('state_dict', 'named_buffers'):
        expected = dict(getattr(theirs, kind)())
        got = dict(getattr(ours, kind)())
        assert list(got) == list(expected)
        for key, value in expected.items():
            assert got[key].dtype == value.dtype
            assert torch.equal(got[key], value)
    assert not any(value.requires_grad for value in ours.parameters())
    assert ours.training == theirs.training
    with torch.no_grad():
        # Some processors round differently where the same weights are at
        # another address.
        torch.testing.assert_close(call_model(ours), call_model(theirs))


def test_building_twelve_billion_parameters_takes_no_memory():
    before = torch.random.get_rng_state()
    model = build(diffusers.FluxTransformer2DModel, dict(guidance_embeds=True))
    assert round(sum(p.numel() for p in model.parameters()) / 1e9, 1) == 11.9
    assert all(value.is_meta for value in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize('variant', [None, 'fp16', 'non_ema'])
@pytest.mark.parametrize('safe', [True, False])
@pytest.mark.parametrize('size', ['10GB', '20KB'])
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_only_what_is_left_is_read(variant, safe, size, dtype, tmp_path):
    model = build_model('DiTTransformer2DModel').half()
    model.save_pretrained(
        tmp_path, variant=variant, safe_serialization=safe, max_shard_size=size
    )
    ours = empty(type(model), tmp_path)
    locations = locate_weights(ours, tmp_path)
    files = {path for path, _ in locations.values()}
    assert (len(files) > 2) == (size == '20KB')
    for part in (model, ours):
        part.transformer_blocks[1] = nn.Identity()
        part.proj_out_2 = nn.Identity()
    for path in files - {locations[key][0] for key in ours.state_dict()}:
        path.unlink()  # these are not opened again
    load_weights(ours, locations, dtype)
    got, expected = ours.state_dict(), model.to(dtype).state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[k], expected[k]) for k in expected)
    assert {value.dtype for value in got.values()} == {dtype or torch.half}


def edit(change):
    def edit_file(folder):
        weights = load_file(folder / FILE)
        change(weights)
        save_file(weights, folder / FILE, metadata=dict(format='pt'))

    return edit_file


def shards(change):
    def save_shards(folder):
        (folder / FILE).unlink()
        save_model(folder, max_shard_size='20KB')
        first = sorted(folder.glob('*-of-*.safetensors'))[0]
        change(first, folder / f'{FILE}.index.json')

    return save_shards


def add_variants(folder):
    for name in ('fp16', 'non_ema'):
        save_model(folder, variant=name)
    (folder / FILE).unlink()


def truncate(folder):
    size = (folder / FILE).stat().st_size
    os.truncate(folder / FILE, size - 8)


def pickle_of(value):
    def save(folder):
        (folder / FILE).unlink()
        torch.save(value, folder / 'diffusion_pytorch_model.bin')

    return save


KEY = 'proj_out_2.bias'
POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (edit(lambda w: w.pop(KEY)), rf"got missing \['{KEY}'\]; the"),
        (edit(lambda w: w.update(new=w[KEY].clone())),
         r"unexpected \['new'\]"),
        (edit(lambda w: w.update({KEY: w[KEY][:4].clone()})),
         rf"shapes \['{KEY} \(4,\) instead of \(16,\)'\]"),
        (edit(lambda w: w.update({k: v.char() for k, v in w.items()})),
         r"integers, quantized weights, in \['"),
        (edit(lambda w: w.update({KEY: w[KEY].to(torch.float8_e4m3fn)})),
         'quantized weights'),
        (edit(lambda w: w[KEY][:1].fill_(float('inf'))),
         rf"NaN or Inf in \['{KEY}'\]"),
        (edit(lambda w: w[KEY][3:].fill_(float('nan'))),
         rf"NaN or Inf in \['{KEY}'\]"),
        (edit(lambda w: w[KEY].fill_(1e5)), 'dtype to bfloat16 or float32'),
        (add_variants, r"only the variants \['fp16', 'non_ema'\]"),
        (lambda folder: (folder / FILE).unlink(), r"got \['config.json'\]"),
        (truncate, 'read safely'),
        (shards(lambda shard, _: shard.unlink()),
         r"got no \['diffusion_pytorch_model-00001-of-\d+.safetensors'\]"),
        (shards(lambda _, index: index.unlink()), 'without their index'),
        (shards(lambda _, index: index.write_text('{}')), 'damaged .*index'),
        (pickle_of(dict(a=print)), 'GLOBAL print was not an allowed'),
        (lambda folder: (folder / FILE).write_text(POINTER),
         rf'{FILE}., got a git-lfs pointer'),
        (pickle_of(dict(state_dict={})), 'values that are no tensors'),
        (pickle_of([torch.ones(2)]), 'read safely'),
    ],
)  # fmt: skip
def test_weights_that_do_not_match_are_refused(change, message, tmp_path):
    cls = save_model(tmp_path)
    change(tmp_path)
    model = empty(cls, tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_weights(model, locate_weights(model, tmp_path), torch.float16)
    assert str(tmp_path) in str(error.value)
    assert re.search(
        '(again|float32|in its folder|not quantized|another one)$',
        str(error.value),
    )
    assert len(re.findall(r'\bexpected', str(error.value))) == 1
    assert not re.search('weights_only|allowlist', str(error.value))


def test_values_that_are_not_kept_are_not_judged(tmp_path):
    """Names and shapes are those of the complete model, though."""
    cls = save_model(tmp_path)
    edit(lambda w: w[KEY].fill_(float('nan')))(tmp_path)
    model = empty(cls, tmp_path)
    locations = locate_weights(model, tmp_path)
    model.proj_out_2 = nn.Identity()
    load_weights(model, locations)


def test_buffers_that_are_computed_may_be_in_the_file(tmp_path):
    """As in files that older versions of diffusers wrote."""
    cls = save_model(tmp_path)
    name = 'pos_embed.pos_embed'
    edit(lambda w: w.update({name: torch.zeros(1, 16, 16)}))(tmp_path)
    model = empty(cls, tmp_path)
    load_weights(model, locate_weights(model, tmp_path))
    assert model.get_buffer(name).any()


def test_leftovers_of_published_files_are_not_used(tmp_path, log):
    """PixArt-alpha's; other names are refused."""
    cls = save_model(tmp_path, 'PixArtTransformer2DModel')
    name = 'caption_projection.y_embedding'
    edit(lambda w: w.update({name: torch.zeros(3, 8)}))(tmp_path)
    model = empty(cls, tmp_path)
    unused = find_family(cls, model.config).unused_weights
    load_weights(model, locate_weights(model, tmp_path, unused))
    assert any(name in record.message for record in log.records)
    for others in ((), unused):
        if others:
            edit(lambda w: w.update(new=torch.zeros(3)))(tmp_path)
        with pytest.raises(ValueError, match=r"unexpected \['(new|cap)"):
            locate_weights(model, tmp_path, others)


def test_buffers_in_the_file_are_not_computed(tmp_path):
    """Other ones are; the values are compared above."""
    model = empty(save_model(tmp_path, 'SD3Transformer2DModel'), tmp_path)
    assert all(value.is_meta for value in model.state_dict().values())
    name = 'pos_embed.pos_embed'
    load_weights(model, locate_weights(model, tmp_path))
    assert torch.equal(
        model.get_buffer(name), load_file(tmp_path / FILE)[name]
    )
    model = empty(save_model(tmp_path / 'dit'), tmp_path / 'dit')
    assert not model.get_buffer(name).is_meta


@pytest.mark.parametrize('name', ['UNet2DModel', 'AutoencoderKL'])
def test_names_of_old_attention_layers_are_read(name, tmp_path):
    """google/ddpm-cifar10-32 and the VAE of Stable Diffusion 1 have them."""
    cls = save_model(tmp_path, name)
    expected = load_file(tmp_path / FILE)
    old = dict(to_q='query', to_k='key', to_v='value')
    old['to_out.0'] = 'proj_attn'
    renamed = dict(expected)
    for new, dated in old.items():
        for key in [key for key in renamed if f'.{new}.' in key]:
            renamed[key.replace(new, dated)] = renamed.pop(key)
    assert renamed.keys() != expected.keys()
    save_file(renamed, tmp_path / FILE, metadata=dict(format='pt'))
    model = empty(cls, tmp_path)
    load_weights(model, locate_weights(model, tmp_path))
    assert all(
        torch.equal(value, expected[key])
        for key, value in model.state_dict().items()
    )


@pytest.mark.parametrize('zipped', [True, False])
def test_the_memory_that_a_pickle_needs_is_logged(zipped, tmp_path, caplog):
    name = 'DiTTransformer2DModel'
    cls = save_model(tmp_path, name, safe_serialization=False)
    file = tmp_path / 'diffusion_pytorch_model.bin'
    expected = torch.load(file)
    torch.save(expected, file, _use_new_zipfile_serialization=zipped)
    model = empty(cls, tmp_path)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    load_weights(model, locate_weights(model, tmp_path))
    logger.removeHandler(caplog.handler)
    assert re.search(r'take up to \d+\.\d kB more memory', caplog.text)
    assert torch.equal(model.state_dict()[KEY], expected[KEY])


NAME = 'diffusion_pytorch_model'
SHARDS = [
    f'{NAME}-00001-of-00002.safetensors',
    f'{NAME}-00002-of-00002.safetensors',
    f'{NAME}.safetensors.index.json',
]
FP16 = [
    f'{NAME}.fp16-00001-of-00002.safetensors',
    f'{NAME}.fp16-00002-of-00002.safetensors',
    f'{NAME}.safetensors.index.fp16.json',
]
OLD_FP16 = [
    f'{NAME}-00001-of-00002.fp16.safetensors',
    f'{NAME}-00002-of-00002.fp16.safetensors',
    f'{NAME}.safetensors.fp16.index.json',
]
BIN = [f'{NAME}.bin']
FP16_FILE = [f'{NAME}.fp16.safetensors']
OTHERS = ['config.json', 'diffusion_flax_model.msgpack', f'{FILE}.incomplete']


@pytest.mark.parametrize(
    ('groups', 'selected'),
    [
        ([SHARDS, FP16, BIN, OTHERS], SHARDS),
        ([[FILE], OLD_FP16, BIN, FP16_FILE], [FILE]),
        ([BIN, FP16_FILE, OTHERS], BIN),
        ([FP16, OTHERS], FP16),
        ([OLD_FP16, [f'{NAME}.fp16.bin']], OLD_FP16),
        ([FP16_FILE], FP16_FILE),
    ],
)
def test_one_format_and_variant_is_selected(groups, selected):
    assert select_weights([*chain(*groups)]) == selected


@pytest.fixture(scope='module')
def large_checkpoint(tmp_path_factory):
    """Write 2.2 GB of float16 in shards of 0.7 GB."""
    config = dict(
        num_attention_heads=24,
        attention_head_dim=64,
        in_channels=4,
        num_layers=24,
        sample_size=16,
        num_embeds_ada_norm=10,
    )
    folder = tmp_path_factory.mktemp('large')
    model = build(diffusers.DiTTransformer2DModel, config).half()
    model.to_empty(device='cpu')
    for value in model.parameters():
        value.fill_(0.5)
    model.save_pretrained(folder, max_shard_size='700MB')
    yield folder
    shutil.rmtree(folder)


MEASURE = """
import sys
from pathlib import Path
from repfusion_mm.models import DiffusersTeacher

def peak():
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) * 1024

folder, dtype, blocks = sys.argv[1:]
others = dict(
    vae=dict(type='AutoencoderKL', block_out_channels=[8], norm_num_groups=4),
    scheduler=dict(type='DDPMScheduler'),
    input_size=16,
    dtype=dtype,
)
config = dict(type='DiTTransformer2DModel', num_layers=1, in_channels=4,
              num_attention_heads=2, attention_head_dim=8, sample_size=16)
DiffusersTeacher(['transformer_blocks.0'], config=config, **others)
before = peak()
layer = f'transformer_blocks.{int(blocks) - 1}'
teacher = DiffusersTeacher([layer], folder, **others)
print(peak(), before, sum(v.nbytes for v in teacher.parameters()))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ('dtype', 'blocks'), [('float16', 24), ('bfloat16', 8)]
)
def test_loading_takes_little_more_memory_than_what_is_kept(
    dtype, blocks, large_checkpoint
):
    output = subprocess.run(
        [sys.executable, '-c', MEASURE, large_checkpoint, dtype, str(blocks)],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=True,
    )
    peak, before, kept = map(int, output.stdout.split()[-3:])
    assert 2e9 * blocks / 24 < kept < 2.3e9 * blocks / 24
    assert peak < before + 1.15 * kept
