"""One text for two checkpoints: in ids that mean the same to both, or in tokens of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import tee
from typing import Any

import torch

from bmatch.models.checkpoint import Checkpoint
from bmatch.models.loading import TOKENIZER_FILES, has_tokenizer, load_tokenizer
from bmatch.models.text import AlignedBatch, aligned_batches, token_batches


def batches_for_both(
    checkpoints: Mapping[str, Checkpoint],
    text: Iterable[str],
    tokens: int,
    sequence_length: int,
    batch_size: int,
) -> Sequence[torch.Tensor] | Sequence[AlignedBatch]:
    """The text in ids that mean the same to both models, or else in tokens of each."""
    tokenizers = {
        role: load_tokenizer(checkpoint)
        for role, checkpoint in checkpoints.items()
        if has_tokenizer(checkpoint)
    }
    if not tokenizers:
        raise FileNotFoundError(
            f"neither {checkpoints['source'].folder} nor {checkpoints['target'].folder} has a "
            f"tokenizer: copy one of its files ({', '.join(TOKENIZER_FILES)}) into the source"
        )
    first, *others = tokenizers.values()
    text, again = tee(text)  # what comes from a pipe can be read once
    batches = token_batches(first, text, tokens, sequence_length, batch_size)
    if all(_mean_the_same(batches, first, other) for other in others):
        return batches
    for role, tokenizer in tokenizers.items():
        if not tokenizer.is_fast:
            raise ValueError(
                "the tokenizers differ, and that of "
                f"{checkpoints[role].folder} cannot tell where in the text its tokens end: save it "
                "as tokenizer.json"
            )
    return aligned_batches(
        tokenizers["target"], tokenizers["source"], again, tokens, sequence_length, batch_size
    )


def _mean_the_same(batches: Sequence[torch.Tensor], one: Any, other: Any) -> bool:
    """Whether the ids in the batches are the same tokens in both vocabularies."""
    ids = sorted({number for batch in batches for number in batch.flatten().tolist()})
    vocabulary = other.get_vocab()
    return all(
        vocabulary.get(token) == number
        for token, number in zip(one.convert_ids_to_tokens(ids), ids, strict=True)
    )


def require_in_vocabulary(
    batches: Sequence[torch.Tensor] | Sequence[AlignedBatch], checkpoints: Mapping[str, Checkpoint]
) -> None:
    """Refuse batches with token ids that a model has no embedding for."""
    for role, checkpoint in checkpoints.items():
        size = checkpoint.axes.vocab_size
        largest = max(
            int((getattr(batch, role) if isinstance(batch, AlignedBatch) else batch).max())
            for batch in batches
        )
        if largest >= size:
            raise ValueError(
                f"the tokenizer gives token {largest}, and the vocabulary of the model in "
                f"{checkpoint.folder} has {size}: it belongs to another model"
            )
