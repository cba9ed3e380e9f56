// What the checks have in common: random numbers that are the same in every run, and an end at the
// first thing that does not hold.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>

inline std::mt19937_64 generator(1);

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::printf("failed: %s\n", what);
  std::exit(1);
}
