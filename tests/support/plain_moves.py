"""Gauges applied by plain indexing, entry by entry: another way than the package has."""

from bmatch import SignedPermutation


def moved(model, spaces, seed):
    """A model's tensors with units of spaces in another order and with other signs."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for k, space in enumerate(spaces):
        gauge = SignedPermutation.random(space.size, space.group, seed=seed + k)
        for member in space.members:
            assert member.slab is None
            axis = state[member.tensor].movedim(member.axis, -1)
            before = axis.clone()
            for unit, (source, sign) in enumerate(zip(gauge.perm, gauge.sign, strict=True)):
                rows = zip(member.offsets, member.strides, member.odd, strict=True)
                for offset, stride, odd in rows:
                    entry = before[..., offset + stride * int(source)]
                    axis[..., offset + stride * unit] = entry * int(sign if odd else 1)
    return state
