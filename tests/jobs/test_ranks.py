"""Streams shared by several ranks: the same sums to the bit, however many there are."""

from __future__ import annotations

import pytest
import torch
from rank_threads import ranks_of_threads
from tiny_models import VOCABULARY, noisy_copy, tiny_model

from bmatch.correlation.stretches import LONGEST, block_ends, stretches
from bmatch.jobs.ranks import ALONE, joined
from bmatch.jobs.resume import KeptParts, KeptState
from bmatch.models.activations import Reader
from bmatch.streams import Job, correlate_streams, serve_streams


@pytest.fixture(scope="module")
def read():
    model = tiny_model()
    models = Reader.of(noisy_copy(model, 0.1, 1)), Reader.of(model)
    generator = torch.Generator().manual_seed(0)
    return *models, [torch.randint(VOCABULARY, (2, 24), generator=generator) for _ in range(37)]


def shared(read, world, kept=None, passed=bool):
    def serve(ranks):  # with models of their own, as processes have
        models = [Reader(noisy_copy(reader.model, 0.0, 0), reader.axes) for reader in read[:2]]
        serve_streams(*models, read[2], ranks=ranks)

    with ranks_of_threads(world, serve) as first:
        return correlate_streams(*read, job=Job(first, kept, passed))


def same(one, other):
    return all(
        torch.equal(a, b)
        for a, b in [
            (one.correlation, other.correlation),
            (one.cross_covariance, other.cross_covariance),
            (one.decoys, other.decoys),
            (torch.stack(one.blocks.correlations), torch.stack(other.blocks.correlations)),
        ]
    ) and (one.tokens, one.blocks.tokens) == (other.tokens, other.blocks.tokens)


def test_any_number_of_ranks_gives_the_same_bits(read):
    single = correlate_streams(*read)
    for world in (2, 4):
        assert same(shared(read, world), single)
    in_one = correlate_streams(*read[:2], iter(read[2]))  # it is the sum of the same tokens, too
    assert torch.allclose(in_one.correlation, single.correlation, atol=1e-6)
    assert torch.allclose(in_one.decoys, single.decoys, atol=1e-6)
    assert in_one.tokens == single.tokens


def test_a_job_that_was_ended_goes_on_with_another_number_of_ranks(read, tmp_path):
    single = correlate_streams(*read)
    kept = KeptState(KeptParts(tmp_path, "streams", pytest.fail), "key", 0)
    seen = []

    def ended(tokens):
        seen.append(tokens)
        if len(seen) == 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        correlate_streams(*read, job=Job(kept=kept, passed=ended))
    rest = []
    assert same(shared(read, 3, kept, rest.append), single)
    assert rest[0] == seen[-2]  # of what the first job had counted, one round is read again
    kept.forget()
    assert kept.load() is None


def test_where_nothing_can_be_kept_the_job_goes_on(read, tmp_path):
    (tmp_path / "file").touch()
    told = []
    kept = KeptState(KeptParts(tmp_path / "file", "streams", told.append), "key", 0)
    found = correlate_streams(*read, job=Job(kept=kept))
    assert same(found, correlate_streams(*read))
    (sentence,) = told
    assert "cannot be kept in" in sentence
    assert "the job goes on" in sentence


@pytest.mark.parametrize("count", [1, 15, 16, 31, 32, 47, 48, 63, 64, 1000, 4097])
def test_stretches_hold_every_batch_once(count):
    cuts = stretches([512] * count)
    assert [k for cut in cuts for k in cut] == list(range(count))
    assert (len(cuts) == 1) == (count < 16)
    assert all(512 * len(cut) <= LONGEST for cut in cuts) or count < 16
    if count >= 16:
        assert 16 <= len(block_ends(len(cuts))) <= 31
        assert max(block_ends(len(cuts))) == len(cuts)


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with joined() as ranks:
        assert ranks is ALONE
        assert ranks.first
        assert ranks.told(3) == 3
        assert ranks.gathered(4) == [4]
