"""Published weights: downloaded whole or not at all, refused in the words of the file."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from nas_compress.errors import CheckpointError
from nas_compress.supernets import load_supernet
from nas_compress.supernets.checkpoint import fetch, load_checkpoint
from nas_compress.weights import write_state


def checkpoint():
    file = io.BytesIO()
    torch.save({"weight": torch.arange(1000.0)}, file)
    return file.getvalue()


GOOD = checkpoint()
HTML = b"<!DOCTYPE html><html>This file is gone</html>"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Yield an address, and the answers that it gives in turns: bodies and the lengths that are told."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    answers = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            body, length = answers.pop(0)
            self.send_response(200)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/net.pt", answers
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((GOOD[: len(GOOD) // 2], len(GOOD)), r"cannot download http://127.*net.pt: .*of [\d,]+ bytes came"),
        ((GOOD[: len(GOOD) // 2], None), r"http://127.*net.pt .*is no checkpoint.* and was removed"),
        ((HTML, len(HTML)), r"http://127.*net.pt .*is no checkpoint.* and was removed"),
    ],
    ids=["torn", "torn without a length", "a page"],
)
def test_what_is_torn_or_no_checkpoint_is_not_kept(server, tmp_path, answer, reason):
    address, answers = server
    answers += [answer, (GOOD, len(GOOD))]
    with pytest.raises(CheckpointError, match=reason):
        fetch(address)
    assert not any((tmp_path / "checkpoints").iterdir())
    path = fetch(address)
    assert path.read_bytes() == GOOD and fetch(address) == path and not answers


def test_a_damaged_file_in_the_cache_is_removed(server, tmp_path):
    address, answers = server
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "net.pt").write_bytes(GOOD[:100])
    with pytest.raises(CheckpointError, match="was removed"):
        fetch(address)
    answers.append((GOOD, None))
    assert fetch(address).read_bytes() == GOOD


def test_a_server_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match=r"cannot download http://127.0.0.1:9/net.pt: .*supernet_ckpt_path"):
        fetch("http://127.0.0.1:9/net.pt")


def published(net):
    """Return a BERT's weights under some of the names that Hugging Face gives them."""
    part = "layers.1.feed_forward.inner.up"
    return {
        key.replace(part, "bert.encoder.layer.1.intermediate.dense").replace("head.out.", "classifier."): tensor
        for key, tensor in net.state_dict().items()
    }


def test_what_does_not_fit_is_told_by_the_names_of_the_file(tmp_path):
    net = load_supernet("tiny_bert", trained=False, seed=0)
    state, key = published(net), "bert.encoder.layer.1.intermediate.dense.weight"
    write_state(tmp_path / "good.safetensors", state)
    load_checkpoint(net, tmp_path / "good.safetensors")
    write_state(tmp_path / "bad.safetensors", {**state, key: torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match=rf"layers\.1\.\S+ \({key} in the file\) has shape"):
        load_checkpoint(net, tmp_path / "bad.safetensors")


def test_a_masked_language_model_is_told_to_have_no_classifier(tmp_path):
    net = load_supernet("tiny_bert", trained=False, seed=0)
    state = {key: value for key, value in published(net).items() if not key.startswith("classifier.")}
    write_state(tmp_path / "mlm.safetensors", {**state, "cls.predictions.bias": torch.zeros(7)})
    with pytest.raises(CheckpointError, match=r"mlm.*has no classifier .*new_head=True.*load_encoder"):
        load_checkpoint(net, tmp_path / "mlm.safetensors")
    net.load_encoder(tmp_path / "mlm.safetensors")
