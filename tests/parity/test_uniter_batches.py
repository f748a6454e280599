"""Token buckets against the released sampler, both of whose shuffles were the identity."""

from __future__ import annotations

import numpy as np

from diptych.data.token_batches import token_batches


def test_every_case_of_the_sampler(golden):
    cases = golden("uniter").facts["bucketing"]
    assert cases
    for case in cases:
        lengths, bucket = np.array(case["lens"]), case["bucket_size"]
        found = token_batches(
            np.arange(len(lengths)),
            lengths,
            budget=case["max_tokens"],
            bucket=bucket,
            longest_of="bucket",
            keep_last=not case["droplast"],
        )
        # Where it drops the rest of a bucket, the release drops a last batch that is full as well; we do not.
        dropped = last_rows(lengths, bucket) if case["droplast"] else set()
        assert [batch.tolist() for batch in found if batch[-1] not in dropped] == case["batches"]


def last_rows(lengths, bucket):
    """The row that stands last in each bucket once it is sorted: of the shortest, the last."""
    starts = range(0, len(lengths), bucket)
    return {
        max(range(start, min(start + bucket, len(lengths))), key=lambda row: (-lengths[row], row)) for start in starts
    }
