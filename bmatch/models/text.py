"""Text to batches of tokens, to run two checkpoints on the same input.

Two models with one vocabulary read the same token ids. Models of different vocabularies read the
same text, each as its own tokenizer cuts it, and what counts are the tokens that end at the same
character: there both have read the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import torch

from bmatch.files.pointers import require_content

_BLOCK = 1 << 16  # characters tokenised at once


def default_text() -> Iterator[str]:
    """English prose that every Python installation ships: its own language reference."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]


def title_of(paths: Iterable[str | os.PathLike[str]]) -> str:
    """What was read, as the header of a gauge names it: text files, or `default_text`."""
    return ", ".join(map(os.path.basename, paths)) or "Python language reference"


def file_text(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The content of text files, in blocks.

    A file is opened when its first block is asked for, and read once: it may be a pipe (as
    ``/dev/stdin``, or a process substitution), and ``-`` is standard input.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file is not UTF-8 text.
    """
    for path in paths:
        name = os.fspath(path)
        try:
            with _opened(name) as file:
                while block := file.read(_BLOCK):
                    yield block
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is not UTF-8 text ({error})") from None


def _opened(name: str) -> TextIO:
    if name == "-":
        if sys.stdin is None:
            raise ValueError("the text is to come from standard input (-), which is closed")
        return open(sys.stdin.fileno(), encoding="utf-8", closefd=False)
    if os.path.isdir(name):
        raise IsADirectoryError(f"{name} is a folder: give text files")
    if not os.path.exists(name):
        raise FileNotFoundError(f"there is no text file {name}")
    if os.path.isfile(name):
        require_content(name)
    return open(name, encoding="utf-8")


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
    _require_sizes(tokens, sequence_length, batch_size)
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


def later_batches(
    tokenizer: Any,
    text: Iterable[str],
    tokens: int,
    sequence_length: int = 256,
    batch_size: int = 2,
) -> list[torch.Tensor]:
    """The same of what follows: sequences after those that `token_batches` cuts, and none of them.

    Raises
    ------
    ValueError
        As `token_batches`, if the text has fewer than twice as many tokens.
    """
    _require_sizes(tokens, sequence_length, batch_size)
    rows = -(-tokens // (sequence_length - 1))
    counted = rows * (sequence_length - 1)
    try:
        both = token_batches(tokenizer, text, 2 * counted, sequence_length, 1)
    except ValueError as error:
        raise ValueError(f"of the tokens for the way back, which are others: {error}") from None
    later = torch.cat(both[rows:])
    return list(torch.split(later, batch_size))


@dataclass(frozen=True, eq=False)
class AlignedBatch:
    """The same text as two models read it, and the tokens that end together.

    Attributes
    ----------
    target, source : int64 [B, T1] and [B, T2]
        Token ids, padded with zeros at the end: a causal model's stream does not depend on what
        comes later.
    target_at, source_at : int64 [K]
        Places in the flattened ids: the k-th of each ends at the same character of the text.
    """

    target: torch.Tensor
    source: torch.Tensor
    target_at: torch.Tensor
    source_at: torch.Tensor

    def numel(self) -> int:
        """How many tokens count: K."""
        return len(self.target_at)


def aligned_batches(
    target_tokenizer: Any,
    source_tokenizer: Any,
    text: Iterable[str],
    tokens: int,
    sequence_length: int = 256,
    batch_size: int = 2,
) -> list[AlignedBatch]:
    """Cut text into batches for two tokenizers, in which `tokens` tokens end together and count.

    The first token of each sequence does not count in either model.

    Parameters
    ----------
    target_tokenizer, source_tokenizer
        Fast tokenizers of transformers, which tell where in the text a token ends.
    text : iterable of str
    tokens : int
        How many tokens are to count.
    sequence_length, batch_size : int
        Tokens of a sequence in the source's vocabulary, sequences of a batch.

    Returns
    -------
    list of AlignedBatch

    Raises
    ------
    ValueError
        If too few tokens of the text end together, or a number makes no sense.
    """
    _require_sizes(tokens, sequence_length, batch_size)
    sequences: list[tuple[list[int], list[int], list[tuple[int, int]]]] = []
    left = tokens
    for source_ids, source_ends, passage in _passages(source_tokenizer, text, sequence_length):
        target_ids, target_ends = _tokenised(target_tokenizer, passage)
        # Where a character is several tokens, all are said to end there: the last one does.
        target_place = {end: place for place, end in enumerate(target_ends)}
        source_place = {end: place for place, end in enumerate(source_ends)}
        together = [
            (target_place[end], place)
            for end, place in source_place.items()
            if place > 0 and target_place.get(end, 0) > 0
        ][:left]
        if together:
            sequences.append((target_ids, source_ids, together))
            left -= len(together)
        if not left:
            break
    if left:
        raise ValueError(
            f"the text is too short: {tokens} tokens were asked for, and {tokens - left} of it end "
            "together in both tokenizers: give more text or ask for fewer"
        )
    return [_batch(sequences[k : k + batch_size]) for k in range(0, len(sequences), batch_size)]


def _batch(sequences: list[tuple[list[int], list[int], list[tuple[int, int]]]]) -> AlignedBatch:
    ids = [
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(sequence[side]) for sequence in sequences], batch_first=True
        )
        for side in (0, 1)
    ]
    at = [
        torch.tensor(
            [
                row * ids[side].shape[1] + pair[side]
                for row, (_, _, together) in enumerate(sequences)
                for pair in together
            ]
        )
        for side in (0, 1)
    ]
    return AlignedBatch(ids[0], ids[1], at[0], at[1])


def _passages(
    tokenizer: Any, text: Iterable[str], sequence_length: int
) -> Iterator[tuple[list[int], list[int], str]]:
    """Token ids of a passage, where each ends in it, and the passage."""
    for block in text:
        ids, ends = _tokenised(tokenizer, block)
        start = 0
        for k in range(0, len(ids), sequence_length):
            run = ends[k : k + sequence_length]
            yield ids[k : k + sequence_length], [end - start for end in run], block[start : run[-1]]
            start = run[-1]


def _tokenised(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """Token ids and after which character each ends."""
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return read["input_ids"], [end for _, end in read["offset_mapping"]]


def _require_sizes(tokens: int, sequence_length: int, batch_size: int) -> None:
    if tokens < 2 or sequence_length < 2 or batch_size < 1:
        raise ValueError(
            f"need at least 2 tokens, sequences of 2 and batches of 1; got {tokens}, "
            f"{sequence_length} and {batch_size}"
        )
