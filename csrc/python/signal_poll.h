// Ctrl-C while the GIL is released.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>

namespace bmatch::python {

// Lets Python handle signals, about 20 times a second.  True: one of them raised an exception.
class SignalPoll {
 public:
  SignalPoll() = default;                               // the first question is answered at once
  explicit SignalPoll(std::chrono::milliseconds first)  // when so long has passed
      : next_(std::chrono::steady_clock::now() + first) {}

  bool operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(50);
    const pybind11::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
  }

 private:
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace bmatch::python
