"""Files that are checkpoints, and errors of others."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from repfusion_mm.engine.checkpoint.io import (
    load_from_address,
    load_from_local,
)


@pytest.fixture
def server(tmp_path):
    """The address of a folder on the web, and the requests to it."""
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=str(tmp_path))
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', requests
    server.shutdown()
    server.server_close()


def test_published_files_are_downloaded_once(server, tmp_path, monkeypatch):
    """Compute nodes may have no network, but a cache."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    address, requests = server
    for name in ('net-0123abcd.pth', 'net.pth'):
        torch.save(dict(a=torch.ones(1)), tmp_path / name)
        for _ in range(2):
            assert load_from_address(f'{address}/{name}')['a'] == 1
    assert requests == ['/net-0123abcd.pth', '/net.pth', '/net.pth']
    assert (tmp_path / 'hub/checkpoints/net-0123abcd.pth').exists()


def test_the_file_that_names_the_last_checkpoint_is_refused(tmp_path):
    path = tmp_path / 'last_checkpoint'
    path.write_text(f'{tmp_path}/iter_4.pth')
    with pytest.raises(ValueError, match='use --resume without a path'):
        load_from_local(str(path))


def test_errors_do_not_ask_to_report_an_issue_of_torch(tmp_path):
    path = tmp_path / 'text.pth'
    path.write_text('/runs/iter_4.pth')
    with pytest.raises(ValueError, match='read safely') as error:
        load_from_local(str(path))
    assert 'issue' not in str(error.value)


def test_a_path_may_be_an_object(tmp_path):
    torch.save(dict(a=torch.ones(1)), tmp_path / 'net-0123abcd.pth')
    assert load_from_address(tmp_path / 'net-0123abcd.pth')['a'] == 1
