"""The reader for torch before 2.6, which the newer ones run as well."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import MultiStepLR

from repfusion_mm.engine.checkpoint.safe_pickle import FORCED, load_file
from tests.helpers.canary import Canary


@pytest.mark.parametrize('zipped', [True, False])
def test_checkpoints_of_mmengine_are_read(tmp_path, zipped):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(net.parameters())
    net[0](torch.ones(1, 3, 2, 2)).sum().backward()
    optimizer.step()
    content = dict(
        state_dict=net.state_dict(),
        parameter=net[1].weight,
        optimizer=optimizer.state_dict(),
        param_schedulers=[MultiStepLR(optimizer, [1, 2]).state_dict()],
        half=torch.ones(3, dtype=torch.bfloat16),
        message_hub=dict(
            log_scalars=dict(loss=HistoryBuffer([1.0, 3.0], [1, 1])),
            runtime_info=dict(lr=np.float64(0.1), iter=np.int64(3)),
        ),
        meta=dict(
            dataset_meta=dict(
                colors=np.ones((2, 3), dtype=np.uint8),
                none=np.zeros((0, 3)),
                classes=('a', 'b'),
                ids={1, 2},
            )
        ),
    )
    path = str(tmp_path / 'epoch_1.pth')
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    loaded = load_file(path)
    for name, value in net.state_dict().items():
        assert torch.equal(loaded['state_dict'][name], value)
    assert torch.equal(loaded['parameter'], net[1].weight)
    assert loaded['optimizer']['param_groups'][0]['lr'] == 1e-3
    assert loaded['half'].dtype == torch.bfloat16
    hub = loaded['message_hub']
    assert hub['log_scalars']['loss'].mean() == 2
    assert hub['runtime_info'] == dict(lr=0.1, iter=3)
    meta = loaded['meta']['dataset_meta']
    assert meta['colors'].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert meta['none'].shape == (0, 3)
    assert (meta['classes'], meta['ids']) == (('a', 'b'), {1, 2})


class Reach:
    """Asks for getattr on something that is not mmengine's buffer."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


@pytest.mark.parametrize('protocol', [0, 2, 4])
@pytest.mark.parametrize('thing', [os.system, Reach(), eval, io.open])
def test_other_globals_are_refused(tmp_path, thing, protocol):
    path = str(tmp_path / 'evil.pth')
    torch.save([thing], path, pickle_protocol=protocol)
    with pytest.raises(pickle.UnpicklingError):
        load_file(path)


@pytest.mark.parametrize('kind', ['zip', 'old', 'pickle'])
def test_no_code_is_run(tmp_path, kind):
    canary, path = tmp_path / 'canary', tmp_path / 'evil.pth'
    if kind == 'pickle':
        path.write_bytes(pickle.dumps(Canary(canary)))
    else:
        zipped = kind == 'zip'
        content = dict(state_dict=Canary(canary))
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError, match='is not allowed'):
        load_file(str(path))
    assert not canary.exists()


def test_programs_and_archives_are_refused(tmp_path):
    program = str(tmp_path / 'program.pt')
    torch.jit.script(torch.nn.Linear(1, 1)).save(program)
    with pytest.raises(ValueError, match='which is a program'):
        load_file(program)
    archive = str(tmp_path / 'old.tar')
    with tarfile.open(archive, 'w') as file:
        file.addfile(tarfile.TarInfo('storages'))
    with pytest.raises(ValueError, match='a tar archive'):
        load_file(archive)


def test_requested_safe_loading_is_kept(tmp_path, monkeypatch):
    """torch refuses the two together, and our tools express the wish."""
    monkeypatch.setenv(FORCED, '1')
    torch.save(dict(log=HistoryBuffer([1.0], [1])), tmp_path / 'a.pth')
    assert load_file(str(tmp_path / 'a.pth'))['log'].mean() == 1
    assert os.environ[FORCED] == '1'
