"""Text to batches of tokens, to run two checkpoints on the same input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

_BLOCK = 1 << 16  # characters tokenised at once


def default_text() -> Iterator[str]:
    """English prose that every Python installation ships: its own language reference."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]


def file_text(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The content of text files, in blocks.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file is not UTF-8 text.
    """
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no text file {os.fspath(path)}")
        try:
            with open(path, encoding="utf-8") as file:
                while block := file.read(_BLOCK):
                    yield block
        except UnicodeDecodeError as error:
            raise ValueError(f"{os.fspath(path)} is not UTF-8 text ({error})") from None


def token_batches(
    tokenizer: Any,
    text: Iterable[str],
    tokens: int,
    sequence_length: int = 256,
    batch_size: int = 2,
) -> list[torch.Tensor]:
    """Cut text into batches of token ids in which `tokens` tokens count.

    The first token of each sequence does not count (see `activations.counted_tokens`). Only as
    much text is read as is needed.

    Parameters
    ----------
    tokenizer
        Of transformers.
    text : iterable of str
    tokens : int
        How many tokens are to count.
    sequence_length, batch_size : int
        Shape of the batches; the last one is smaller, and the last sequence shorter, where need
        be.

    Returns
    -------
    list of int64 [B, T]

    Raises
    ------
    ValueError
        If the text has fewer tokens than asked for, or a number makes no sense.
    """
    if tokens < 2 or sequence_length < 2 or batch_size < 1:
        raise ValueError(
            f"need at least 2 tokens, sequences of 2 and batches of 1; got {tokens}, "
            f"{sequence_length} and {batch_size}"
        )
    counted = sequence_length - 1
    full, rest = divmod(tokens, counted)
    wanted = full * sequence_length + (rest + 1 if rest else 0)
    ids: list[int] = []
    for block in text:
        ids.extend(tokenizer(block, add_special_tokens=False, verbose=False)["input_ids"])
        if len(ids) >= wanted:
            break
    if len(ids) < wanted:
        have = len(ids) - -(-len(ids) // sequence_length)
        raise ValueError(
            f"the text is too short: {tokens} tokens were asked for, and it holds {max(have, 0)} "
            f"(in sequences of {sequence_length}, the first of each not counted): give more text "
            "or ask for fewer"
        )
    sequences = torch.tensor(ids[: full * sequence_length]).reshape(full, sequence_length)
    batches = [sequences[k : k + batch_size] for k in range(0, full, batch_size)]
    if rest:
        batches.append(torch.tensor([ids[full * sequence_length : wanted]]))
    return batches
