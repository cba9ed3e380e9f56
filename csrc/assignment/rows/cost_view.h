// A matrix as the solver reads it: where it lies, and what counts as a cost.
//
// The solver minimises.  Maximisation and sign-marginalised matching are a change of what
// a stored number x costs (-x and -|x|), made by two bit operations while the number is
// loaded, so that neither a negated matrix nor a |C| copy ever exists.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace bmatch {

enum class Sense { minimize, maximize, maximize_magnitude };

// cost = (stored & keep) ^ flip, on the bits of the number.
template <typename T>
struct CostBits {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  static constexpr Bits kSign = Bits{1} << (8 * sizeof(T) - 1);

  Bits keep = ~Bits{0};
  Bits flip = 0;

  CostBits() = default;
  constexpr explicit CostBits(Sense sense)
      : keep(sense == Sense::maximize_magnitude ? ~kSign : ~Bits{0}),
        flip(sense == Sense::minimize ? 0 : kSign) {}

  // The cost of a stored entry; exact.
  T operator()(T x) const {
    Bits bits;
    std::memcpy(&bits, &x, sizeof x);
    bits = (bits & keep) ^ flip;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
};

// Strides count elements, not bytes, and may be negative or zero.
template <typename T>
struct CostView {
  const T* data;
  std::int64_t rows, cols;
  std::int64_t row_stride, col_stride;
  Sense sense;

  CostView transposed() const { return {data, cols, rows, col_stride, row_stride, sense}; }
};

}  // namespace bmatch
