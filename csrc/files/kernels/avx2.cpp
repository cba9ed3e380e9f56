// SHA-256 of 8 streams in AVX2, compiled for it by pragma: all other headers are read before, so
// that no function shared with other files is compiled for this machine alone.
#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

#include "sha256_kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

namespace bmatch {
namespace {

#include "sha256_inl.h"

}  // namespace

constexpr Sha256Kernel kAvx2Sha256 = {8, &Sha256<8>::blocks};

}  // namespace bmatch

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
