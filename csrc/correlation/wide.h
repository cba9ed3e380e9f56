// BMATCH_WIDE: a function compiled twice, so that it uses AVX2 where the processor has it; the
// loader chooses. What it calls must be BMATCH_INLINE to be compiled twice with it.
#pragma once

// The thread sanitizer does not start before the loader has chosen.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute) && \
    !defined(__SANITIZE_THREAD__)
#if __has_attribute(target_clones)
#define BMATCH_WIDE __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef BMATCH_WIDE
#define BMATCH_WIDE
#endif

#define BMATCH_INLINE inline __attribute__((always_inline))
