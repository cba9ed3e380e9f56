// SHA-256 of 16 streams in AVX-512, compiled for it by pragma: all other headers are read before,
// so that no function shared with other files is compiled for this machine alone.
#if defined(__x86_64__)

#include <cstdint>
#include <cstring>

#include "sha256_kernels.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2")
#endif

namespace bmatch {
namespace {

#include "sha256_inl.h"

}  // namespace

constexpr Sha256Kernel kAvx512Sha256 = {16, &Sha256<16>::blocks};

}  // namespace bmatch

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
