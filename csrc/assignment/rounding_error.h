#pragma once

namespace bmatch {

// What a rounded c - v lacks to the exact one: Knuth's error of a sum.
inline double rounding_error(double c, double v) {
  const double x = c - v, taken = x - c;
  return (c - (x - taken)) - (v + taken);
}

}  // namespace bmatch
