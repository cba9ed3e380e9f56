"""Text to token batches: exact counts, short texts, bad files."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading

import pytest
import tokenizers
import torch
import transformers
from lfs import POINTER

from bmatch.models.activations import counted_tokens
from bmatch.models.text import (
    aligned_batches,
    default_text,
    file_text,
    later_batches,
    token_batches,
)


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


def bytes_only(tokenizer):
    """A tokenizer of single bytes."""
    single = sorted(token for token in tokenizer.get_vocab() if len(token) == 1)
    vocabulary = {token: number for number, token in enumerate(single)}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model)


def test_tokens_of_two_vocabularies_end_together(tokenizer):
    """What both have read at a pair of places is the same text, by decoding each on its own."""
    text = [
        "Ein Gruß, 名前 and the rest of it.\n  The end of the first block",
        "and the \u00e9nd",
    ] * 9
    other = bytes_only(tokenizer)
    batches = aligned_batches(other, tokenizer, text, 150, sequence_length=20, batch_size=3)
    assert sum(len(batch.source_at) for batch in batches) == 150
    assert [len(batch.source) for batch in batches[:-1]] == [3] * (len(batches) - 1)
    for batch in batches:
        assert len(batch.target_at) == len(batch.source_at)
        assert batch.source.shape[1] <= 20
        for t, s in zip(batch.target_at.tolist(), batch.source_at.tolist(), strict=True):
            row, place = divmod(s, batch.source.shape[1])
            target_row, target_place = divmod(t, batch.target.shape[1])
            assert row == target_row
            assert place > 0
            assert target_place > 0
            read = tokenizer.decode(batch.source[row, : place + 1])
            assert other.decode(batch.target[row, : target_place + 1]) == read
            assert "\ufffd" not in read  # never inside a character


def test_equal_vocabularies_end_together_everywhere(tokenizer):
    (batch,) = aligned_batches(tokenizer, tokenizer, ["plain words " * 50], 38, 20)
    assert torch.equal(batch.target, batch.source)
    assert torch.equal(batch.target_at, batch.source_at)
    assert batch.source_at.tolist() == [*range(1, 20), *range(21, 40)]


def test_too_little_text_for_two_tokenizers(tokenizer):
    with pytest.raises(ValueError, match="50 tokens were asked for, and 2 of it end together"):
        aligned_batches(tokenizer, tokenizer, ["a b c"], 50)
    with pytest.raises(ValueError, match="need at least 2 tokens"):
        aligned_batches(tokenizer, tokenizer, ["a"], 1)


def test_text_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("ä " * 100_000,))
    writer.start()
    assert "".join(file_text([tmp_path / "pipe"])) == "ä " * 100_000
    writer.join()


READ = "from bmatch.models.text import file_text; print(len(''.join(file_text({paths!r}))))"


@pytest.mark.parametrize("path", ["-", "/dev/stdin", "/dev/fd/0"])
def test_text_from_standard_input(tmp_path, path):
    """As UTF-8 whatever the terminal's encoding; from a pipe as from a file."""
    text = "ä€" * 50_000
    (tmp_path / "text").write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", READ.format(paths=[path])]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    piped = subprocess.run(
        command, input=text.encode(), stdout=subprocess.PIPE, check=True, env=environment
    )
    with open(tmp_path / "text") as file:
        redirected = subprocess.run(
            command, stdin=file, stdout=subprocess.PIPE, check=True, env=environment
        )
    assert int(piped.stdout) == int(redirected.stdout) == len(text)


def test_standard_input_that_is_closed():
    done = subprocess.run(
        [sys.executable, "-c", READ.format(paths=["-"])],
        preexec_fn=functools.partial(os.close, 0),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == (
        "ValueError: the text is to come from standard input (-), which is closed"
    )


def test_what_holds_no_text(tmp_path):
    (tmp_path / "pointer").write_text(POINTER)
    with pytest.raises(ValueError, match="is a Git-LFS pointer"):
        list(file_text([tmp_path / "pointer"]))
    with pytest.raises(IsADirectoryError, match="is a folder: give text files"):
        list(file_text([tmp_path]))


@pytest.mark.parametrize("tokens", [90, 80])
def test_later_batches_are_what_follows(tokenizer, tokens):
    """Sequences after the six that the first batches are cut from."""
    later = later_batches(tokenizer, default_text(), tokens, 16, 4)
    both = torch.cat(token_batches(tokenizer, default_text(), 2 * 90, 16, 12))
    assert torch.equal(torch.cat(later), both[6:])
    assert [len(batch) for batch in later] == [4, 2]
    with pytest.raises(ValueError, match="tokens for the way back, which are others"):
        later_batches(tokenizer, ["few words"], tokens, 16, 4)
