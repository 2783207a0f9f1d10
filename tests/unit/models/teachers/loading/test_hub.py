"""Of a pipeline on the hub, only what a teacher needs is downloaded."""

import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path
from urllib.parse import urlparse

import diffusers
import pytest
import torch
from mmengine.registry import MODELS

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.inputs.encoder_loading import open_encoder
from repfusion_mm.models.teachers.loading.folders import (
    find_image_encoder,
    find_part,
)
from repfusion_mm.models.teachers.loading.hub import (
    fetch,
    fetch_text_encoders,
    fetch_weights,
)
from repfusion_mm.models.teachers.loading.scheduler import load_scheduler
from tests.helpers.pipelines import latent_unet
from tests.helpers.pipelines.parts import autoencoder
from tests.helpers.toy import LAYER, PIXELS, save_teacher

COMMIT = 'a' * 40
NAME = 'diffusion_pytorch_model'


class Hub(http.server.BaseHTTPRequestHandler):
    """Serve one folder as the repository of each name but ``me/gated``."""

    folder: Path

    def log_message(self, *_arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlparse(self.path).path
        files = [p for p in sorted(self.folder.rglob('*')) if p.is_file()]
        names = [file.relative_to(self.folder).as_posix() for file in files]
        headers = {'X-Repo-Commit': COMMIT}
        status = 200
        if 'me/gated' in path:
            status, body = 403, b''
            headers['X-Error-Code'] = 'GatedRepo'
        elif '/tree/' in path:
            entries = [
                dict(type='file', path=n, size=f.stat().st_size, oid=n)
                for n, f in zip(names, files)
            ]
            body = json.dumps(entries).encode()
        elif path.startswith('/api/models/'):
            siblings = [dict(rfilename=name) for name in names]
            info = dict(id='me/pipeline', sha=COMMIT, siblings=siblings)
            body = json.dumps(info).encode()
        elif path.split(f'/{COMMIT}/')[-1] in names:
            body = (self.folder / path.split(f'/{COMMIT}/')[-1]).read_bytes()
            headers['ETag'] = f'"{hashlib.sha1(body).hexdigest()}"'
        else:
            status, body = 404, b''
            headers['X-Error-Code'] = 'EntryNotFound'
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serve ``tmp_path / 'hub'``, with an empty cache."""
    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), type('Here', (Hub,), dict(folder=tmp_path / 'hub'))
    )
    thread = threading.Thread(
        target=server.serve_forever, args=(0.01,), daemon=True
    )
    thread.start()
    endpoint = f'http://127.0.0.1:{server.server_port}'
    for name, value in dict(
        HF_HUB_OFFLINE=False,
        ENDPOINT=endpoint,
        HUGGINGFACE_CO_URL_TEMPLATE=(
            endpoint + '/{repo_id}/resolve/{revision}/{filename}'
        ),
        HF_HUB_CACHE=str(tmp_path / 'cache'),
    ).items():
        monkeypatch.setattr(f'huggingface_hub.constants.{name}', value)
    yield tmp_path / 'hub'
    server.shutdown()
    thread.join()
    server.server_close()


SHARDS = [
    f'vae/{NAME}.fp16-00001-of-00002.safetensors',
    f'vae/{NAME}.fp16-00002-of-00002.safetensors',
    f'vae/{NAME}.safetensors.index.fp16.json',
]


def save_pipeline(folder):
    """Write the files of a pipeline on the hub, with weights of one byte."""
    index = dict(
        _class_name='StableDiffusionPipeline',
        scheduler=['diffusers', 'DDPMScheduler'],
        unet=['diffusers', 'UNet2DConditionModel'],
        vae=['diffusers', 'AutoencoderKL'],
        text_encoder=['transformers', 'CLIPTextModel'],
    )
    files = {
        'model_index.json': index,
        'scheduler/scheduler_config.json': dict(_class_name='DDPMScheduler'),
        'unet/config.json': dict(_class_name='UNet2DConditionModel'),
        'vae/config.json': dict(_class_name='AutoencoderKL'),
        SHARDS[0]: 1,
        SHARDS[1]: 2,
        SHARDS[2]: dict(weight_map={'a': SHARDS[0][4:], 'b': SHARDS[1][4:]}),
        'text_encoder/config.json': dict(),
        'text_encoder/model.safetensors': 3,
        'text_encoder/model.fp16.safetensors': 3,
        'text_encoder/pytorch_model.bin': 3,
        'text_encoder/flax_model.msgpack': 3,
        'tokenizer/vocab.json': dict(),
        'tokenizer/merges.txt': 3,
        'v1-5-pruned.ckpt': 4,
    }
    for variant in ('', '.fp16'):
        for kind in ('safetensors', 'bin'):
            files[f'unet/{NAME}{variant}.{kind}'] = 5
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def names_in(folder):
    files = [path for path in folder.rglob('*') if path.is_file()]
    return {path.relative_to(folder).as_posix() for path in files}


def test_only_what_a_teacher_needs_is_downloaded(hub, monkeypatch):
    save_pipeline(hub)
    folder = fetch('me/pipeline')
    configs = {
        'model_index.json',
        'scheduler/scheduler_config.json',
        'text_encoder/config.json',
        'unet/config.json',
        'vae/config.json',
    }
    assert names_in(folder) == configs
    part = find_part(folder)
    assert part.cls is diffusers.UNet2DConditionModel
    assert fetch_weights('me/pipeline', part) == folder / 'unet'
    weights = {f'unet/{NAME}.safetensors'}
    assert names_in(folder) == configs | weights
    assert fetch_weights('me/pipeline', find_image_encoder(folder)) == (
        folder / 'vae'
    )
    weights |= set(SHARDS)
    assert names_in(folder) == configs | weights
    texts = ['text_encoder', 'tokenizer']
    assert fetch_text_encoders('me/pipeline', texts) == folder
    assert names_in(folder) == configs | weights | {
        'text_encoder/model.safetensors',
        'tokenizer/merges.txt',
        'tokenizer/vocab.json',
    }
    assert type(load_scheduler('me/pipeline')) is diffusers.DDPMScheduler
    # Without a network, the cache is read, also if it is not complete.
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    (folder / 'text_encoder' / 'config.json').unlink()
    assert fetch('me/pipeline') == folder
    assert fetch_weights('me/pipeline', part) == folder / 'unet'
    assert fetch_text_encoders('me/pipeline', texts) == folder
    (folder / 'unet' / f'{NAME}.safetensors').unlink()
    with pytest.raises(ConnectionError, match="the weights of 'me/pipeline'"):
        fetch_weights('me/pipeline', part)


def test_an_image_encoder_that_is_not_returned_names_its_setting(
    hub, monkeypatch
):
    autoencoder().save_pretrained(hub)
    fetch('me/vae')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    for name in ('me/vae', 'me/nothing'):
        with pytest.raises(
            ConnectionError, match=r'options model\.teacher\.vae=TEACHER'
        ):
            open_encoder(name, None, None, None, 'auto')


def test_a_denoiser_on_the_hub_is_the_one_that_was_saved(hub):
    save_teacher(hub)
    expected = diffusers.UNet2DModel.from_pretrained(hub).state_dict()
    got = DiffusersTeacher(
        [LAYER], 'me/denoiser', dtype='float32', early_stop=False
    ).denoiser.state_dict()
    assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_a_latent_pipeline_on_the_hub_is_finetuned(hub):
    latent_unet.save(hub)
    expected = diffusers.LDMPipeline.from_pretrained(hub)
    model = MODELS.build(
        dict(
            type='repfusion_mm.DenoisingDiffusion',
            denoiser=dict(pretrained='me/pipeline'),
            data_preprocessor=PIXELS,
        )
    )
    for got, own in (
        (model.denoiser, expected.unet),
        (model.encoder.vae.encoder, expected.vqvae.encoder),
    ):
        weights = own.state_dict()
        assert weights.keys() == got.state_dict().keys()
        for name, value in got.state_dict().items():
            assert torch.equal(value, weights[name])
    assert model.sample(1, num_steps=2).isfinite().all()


def test_an_interrupted_download_is_completed(hub):
    save_pipeline(hub)
    part = find_part(fetch('me/pipeline'))._replace(name='vae')
    part = part._replace(folder=part.folder.with_name('vae'))
    fetch_weights('me/pipeline', part)
    (part.folder.parent / SHARDS[1]).unlink()
    fetch_weights('me/pipeline', part)
    assert (part.folder.parent / SHARDS[1]).is_file()


def test_a_license_that_was_not_accepted_is_named(hub):
    save_pipeline(hub)
    with pytest.raises(
        PermissionError, match=r'accept its license at .*gated'
    ):
        fetch('me/gated')


def test_a_mistyped_path_is_not_a_hub_id(tmp_path, monkeypatch):
    """A hub id would be looked for on the network, for a minute."""
    monkeypatch.chdir(tmp_path)
    save_pipeline(tmp_path / 'work_dirs/teacher')
    with pytest.raises(
        FileNotFoundError,
        match=r"at 'work_dirs/teecher', got no such folder, but teacher, in "
        r"'.*/work_dirs'",
    ):
        fetch('work_dirs/teecher')
    with pytest.raises(FileNotFoundError, match=r"no such folder in '.*/work"):
        fetch('work_dirs/xyz')


def test_a_folder_is_returned_unchanged(tmp_path):
    save_pipeline(tmp_path)
    assert fetch(str(tmp_path)) == tmp_path
    assert fetch_text_encoders(str(tmp_path), ['none']) == tmp_path
    part = find_part(tmp_path)
    assert fetch_weights(str(tmp_path), part) == tmp_path / 'unet'
    shutil.rmtree(tmp_path / 'unet')
    with pytest.raises(ValueError, match='hub id or a folder, got None'):
        fetch(None)
