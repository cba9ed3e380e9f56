// Neumaier's compensated sum: n float64 terms to one rounding.
//
// A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", ZAMM 54
// (1974).
#pragma once

#include <cmath>

namespace bmatch {

class Sum {
 public:
  void add(double x) {
    const double total = total_ + x;
    carry_ += std::fabs(total_) >= std::fabs(x) ? (total_ - total) + x : (x - total) + total_;
    total_ = total;
  }
  // An intermediate overflow leaves no carry to speak of.
  double value() const { return carry_ == carry_ ? total_ + carry_ : total_; }

 private:
  double total_ = 0.0, carry_ = 0.0;
};

}  // namespace bmatch
