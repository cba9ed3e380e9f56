// Which memory csrc/cuda/receipt.cu hands out, on a device that is played.  Exits with 1 where it
// is wrong.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "receipt.h"
#include "receipt_runtime.h"

using bmatch::cuda::is_captured;
using bmatch::cuda::Receipt;
using bmatch::cuda::Report;

namespace {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "expected that %s\n", what);
  std::exit(1);
}

std::unique_ptr<Receipt> followed(std::int64_t problems, int device = 0) {
  auto receipt = std::make_unique<Receipt>(problems, device);
  receipt->follow(nullptr);
  return receipt;
}

}  // namespace

int main() {
  auto first = followed(3);
  Report* const usual = first->reports();
  expect(!first->has_arrived(), "a solve takes time");
  ++played::now;
  expect(first->has_arrived(), "a solve ends");
  auto beside = followed(3);
  expect(beside->reports() != usual, "memory that is held is nobody else's");
  beside.reset();
  ++played::now;
  first.reset();

  auto given_up = followed(3);
  Report* const late = given_up->reports();
  given_up.reset();
  auto next = followed(3), third = followed(3);
  expect(next->reports() != late && third->reports() != late, "what will be written is left alone");
  expect(played::memory.size() == 3, "three are held at once");
  next.reset(), third.reset();
  ++played::now;
  next = followed(3), third = followed(3);
  auto fourth = followed(3);
  expect(played::memory.size() == 3, "memory is taken again once it is written");
  fourth.reset(), third.reset();
  ++played::now;

  fourth = followed(3, 1);
  expect(played::memory.size() == 4, "each device has its own");
  third = followed(100'000);
  third->reports()[99'999] = {};
  expect(played::memory.size() == 4, "memory grows in place of more of it");

  Report* lost = nullptr;
  {
    const Receipt failed(3, 0);
    lost = failed.reports();
  }
  for (auto& one : {std::make_unique<Receipt>(3, 0), std::make_unique<Receipt>(3, 0)}) {
    expect(one->reports() != lost, "what nothing follows is not taken again");
  }

  expect(!is_captured(0, nullptr), "nothing is captured");
  played::captures = true;
  expect(is_captured(0, nullptr), "a capture is seen");
  played::has_failed = true;
  try {
    next->has_arrived();
    expect(false, "a failure is thrown");
  } catch (const std::runtime_error&) {
  }
}
