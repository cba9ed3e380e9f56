"""What a user without root's privileges is refused, for tests that root runs, too."""

from __future__ import annotations

import ctypes

_DROP_FROM_BOUNDING_SET = 24  # PR_CAPBSET_DROP
_OVERRIDE, _READ_SEARCH = 1, 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def heed_permissions():
    """For ``preexec_fn``: the process that starts is held to the modes of files, even root's."""
    libc = ctypes.CDLL(None)
    for capability in (_OVERRIDE, _READ_SEARCH):
        libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
