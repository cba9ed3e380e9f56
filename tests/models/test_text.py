"""Text to token batches: exact counts, short texts, bad files."""

from __future__ import annotations

import pytest
import torch

from bmatch.models.activations import counted_tokens
from bmatch.models.text import default_text, file_text, token_batches


@pytest.mark.parametrize("tokens", [2, 15, 16, 30, 100, 1000])
def test_exactly_the_tokens_asked_for_count(tokenizer, tokens):
    batches = token_batches(tokenizer, default_text(), tokens, sequence_length=16, batch_size=3)
    assert sum(int(counted_tokens(batch).sum()) for batch in batches) == tokens
    assert all(batch.shape[0] <= 3 and batch.shape[1] <= 16 for batch in batches)
    assert all(batch.dtype == torch.int64 for batch in batches)


def test_default_text_is_prose_and_long_enough(tokenizer):
    text = "".join(default_text())
    assert len(text) > 300_000
    assert 'The "try" statement' in text


def test_text_is_read_only_as_far_as_needed(tokenizer):
    def blocks():
        yield "some words to begin with " * 20
        raise AssertionError("read on")

    assert len(token_batches(tokenizer, blocks(), 20)) == 1


@pytest.mark.parametrize("words", ["", "few words"])
def test_short_text_is_refused(tokenizer, words):
    with pytest.raises(ValueError, match="the text is too short: 500 tokens were asked for"):
        token_batches(tokenizer, [words], 500)


def test_senseless_numbers_are_refused(tokenizer):
    for numbers in ((1, 256, 4), (10, 1, 4), (10, 256, 0)):
        with pytest.raises(ValueError, match="need at least 2 tokens"):
            token_batches(tokenizer, default_text(), *numbers)


def test_files(tmp_path):
    (tmp_path / "a.txt").write_text("alpha " * 20_000)
    (tmp_path / "b.txt").write_text("beta")
    blocks = list(file_text([tmp_path / "a.txt", tmp_path / "b.txt"]))
    assert "".join(blocks) == "alpha " * 20_000 + "beta"
    assert max(map(len, blocks)) <= 1 << 16
    with pytest.raises(FileNotFoundError, match=r"there is no text file .*c\.txt"):
        list(file_text([tmp_path / "c.txt"]))
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        list(file_text([tmp_path / "d.txt"]))
