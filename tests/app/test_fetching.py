"""Weights that are not at hand are fetched, with a bar, before a network is watched."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from serving import Server

from msr_zoo import create_model
from msr_zoo.hub import save_pretrained
from msr_zoo.predict import EXAMPLE

NAME = "msresnet18.in1k"
SECONDS = 4


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """A server that takes some seconds to hand the weights out."""
    folder = tmp_path_factory.mktemp("mirror") / NAME
    save_pretrained(create_model("msresnet18", zero_init_last=False), folder, card="")
    weights = (folder / "model.safetensors").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(weights)))
            self.end_headers()
            part = len(weights) // 40 + 1
            for start in range(0, len(weights), part):
                self.wfile.write(weights[start : start + part])
                time.sleep(SECONDS / 40)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_bar_shows_how_much_is_there(mirror, tmp_path, monkeypatch):
    gradio_client = pytest.importorskip("gradio_client")
    monkeypatch.setenv("MSR_ZOO_MIRROR", mirror)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    server = Server(tmp_path)
    try:
        client = gradio_client.Client(server.address(), verbose=False, analytics_enabled=False)
        picture = gradio_client.handle_file(str(EXAMPLE))
        given = (picture, None, NAME, 1, 0, 0, False, NAME, 1, None)
        job = client.submit(*given, api_name="/watch")
        shares = []
        while not job.done():
            for unit in job.status().progress_data or []:
                if unit.length and (not shares or unit.index / unit.length > shares[-1]):
                    shares.append(unit.index / unit.length)
            time.sleep(0.05)
        body, _, _ = job.result()
        client.close()
    finally:
        server.stop()
    assert "after step 1 of 1" in body
    assert len(shares) > 3
    assert shares == sorted(shares)
