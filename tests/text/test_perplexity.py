"""Perplexity by a language model in a folder: as transformers says, and as is known by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from evalsuite.encoders.perplexity import load_text_scorer
from evalsuite.errors import ModelError
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.pipeline.run import run_gate

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "away"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 with random weights, and a tokenizer of ten words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    home = tmp_path_factory.mktemp("lm")
    vocabulary = {"<s>": 0, "<unk>": 1, **{w: i for i, w in enumerate(WORDS, start=2)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>"
    ).save_pretrained(home)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=12, n_positions=16, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(home)
    return home


def test_it_is_the_loss_of_transformers(folder: Path) -> None:
    scorer = load_text_scorer(f"perplexity/{folder}")
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    row = torch.tensor(
        [[0, *(WORDS.index(w) + 2 for w in ["the", "cat", "sat", "on", "a", "mat"])]]
    )
    with torch.inference_mode():
        expected = float(model(row, labels=row).loss) / np.log(2)
    found = scorer.score(["the cat sat on a mat", "", "dog ran"])
    assert found[0, 0] == pytest.approx(expected, rel=1e-5)
    assert np.isnan(found[1, 0])
    assert found[2, 0] == scorer.score(["dog ran"])[0, 0]


def test_texts_are_cut_at_what_the_model_reads(folder: Path) -> None:
    scorer = load_text_scorer(f"perplexity/{folder}")
    long = "the cat sat on a mat " * 50_000
    assert np.isfinite(scorer.score([long])).all()
    assert scorer.score([long])[0, 0] == scorer.score(["the cat sat on a mat " * 5])[0, 0]


def test_a_uniform_model_is_surprised_by_log2_of_its_words(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(folder, flat)
    model = transformers.GPT2LMHeadModel.from_pretrained(folder)
    for weights in model.parameters():
        torch.nn.init.zeros_(weights)
    model.save_pretrained(flat)
    found = load_text_scorer(f"perplexity/{flat}").score(["the dog", "a far mat"])
    assert found[:, 0] == pytest.approx([np.log2(12)] * 2)


def test_the_gate_shows_it_among_the_attributes(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("real", "synthetic"):
        texts = [" ".join(rng.choice(WORDS, 8)) for _ in range(40)]
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / f"{name}.jsonl").write_text(rows, "utf-8")
    policy = Policy.model_validate({
        **load_policy().model_dump(),
        "encoders": {"text": ("char_ngrams",)}, "scorers": {"text": (f"perplexity/{folder}",)},
    })  # fmt: skip
    result = run_gate(
        tmp_path / "real.jsonl", tmp_path / "synthetic.jsonl", policy=policy, cache=None,
        progress=False,
    ).result  # fmt: skip
    (shown,) = [f for f in result.findings if f.metric == "log2_perplexity"]
    assert shown.n_real == shown.n_synthetic == 40
    assert shown.details["real_mean"] > 1


def test_what_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown scorer of text"):
        load_text_scorer("gpt2")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_text_scorer(f"perplexity/{tmp_path}")
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="unpickled"):
        load_text_scorer(f"perplexity/{pickled}")
