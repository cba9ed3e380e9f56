"""The stream between blocks, against transformers' own hidden states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from bmatch.models.activations import Reader, counted_tokens, pair_sites, run, split_batch


def test_streams_are_the_hidden_states_before_the_final_norm():
    model = tiny_model(num_hidden_layers=3)
    tokens = torch.randint(300, (2, 10), generator=torch.Generator().manual_seed(0))
    seen = {}
    run(Reader.of(model), tokens, range(4), seen.__setitem__)
    with torch.no_grad():
        hidden = model(tokens, output_hidden_states=True).hidden_states
    for site in range(3):
        assert torch.equal(seen[site], hidden[site])
    assert torch.allclose(model.model.norm(seen[3]), hidden[3], atol=1e-6)
    assert not torch.allclose(seen[3], hidden[3], atol=1e-2)


def test_hooks_are_gone_afterwards_even_after_an_error():
    model = tiny_model()
    tokens = torch.zeros(1, 4, dtype=torch.long)

    def fail(site, stream):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(Reader.of(model), tokens, [0, 1], fail)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in model.model.layers)


def test_padding_and_first_positions_do_not_count():
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    batch = {"input_ids": torch.zeros(2, 4, dtype=torch.long), "attention_mask": mask}
    assert counted_tokens(batch).tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert counted_tokens(batch, skip_positions=0).tolist() == mask.bool().tolist()
    assert counted_tokens(batch["input_ids"], 2).tolist() == [[0, 0, 1, 1]] * 2


def test_sites_of_equal_depths():
    assert pair_sites(3, 3, "all") == ((0, 0), (1, 1), (2, 2), (3, 3))
    assert pair_sites(3, 3, [-1, 0, 3]) == ((0, 0), (3, 3))
    assert pair_sites(3, 3, np.array([0, 1])) == ((0, 0), (1, 1))
    assert all(type(site) is int for pair in pair_sites(3, 3, np.array([0, 1])) for site in pair)
    for bad in ([4], [-5], [], "last", 3):
        with pytest.raises(ValueError, match="sites must be 'all' or numbers from 0 to 3"):
            pair_sites(3, 3, bad)


def test_sites_of_different_depths():
    """Equal fractions of depth, ends with ends; numbers are taken in each model by themselves."""
    assert pair_sites(2, 4, "all") == ((0, 0), (1, 2), (2, 4))
    assert pair_sites(6, 4, "all") == ((0, 0), (2, 1), (3, 2), (5, 3), (6, 4))
    assert pair_sites(24, 30, "all")[0] == (0, 0)
    assert pair_sites(24, 30, "all")[-1] == (24, 30)
    assert pair_sites(2, 4, [0, 1, -1]) == ((0, 0), (1, 1), (2, 4))
    with pytest.raises(ValueError, match="numbers from 0 to 2"):
        pair_sites(2, 4, [3])


def test_bad_batches_are_refused():
    with pytest.raises(TypeError, match="must have input_ids, got the keys tokens"):
        split_batch({"tokens": torch.zeros(1, 1)})
    with pytest.raises(TypeError, match="return_tensors='pt', got list"):
        split_batch({"input_ids": [[1, 2]]})
    with pytest.raises(ValueError, match=r"token ids must be from 0 to 299, .* got 0 to 300"):
        run(Reader.of(tiny_model()), torch.tensor([[0, 300]]), [0], print)
    with pytest.raises(ValueError, match=r"\[batch, tokens\], got shape \(3,\)"):
        split_batch(torch.zeros(3, dtype=torch.long))
