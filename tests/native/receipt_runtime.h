// What csrc/cuda/receipt.cu asks of CUDA, played: work on a stream ends when the clock moves on.
#pragma once

#include <cstddef>
#include <set>
#include <stdexcept>
#include <string>

enum cudaError_t { cudaSuccess, cudaErrorNotReady, cudaErrorIllegalAddress };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
constexpr unsigned cudaEventDisableTiming = 2, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2;

namespace played {

struct Event {
  int due = 0;
};
inline int now = 0;
inline bool captures = false, has_failed = false;
inline std::set<void*> memory;  // of the host, that the device can write to

}  // namespace played

using cudaStream_t = void*;
using cudaEvent_t = played::Event*;

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new played::Event;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->due = played::now + 1;
  return cudaSuccess;
}
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (played::has_failed) return cudaErrorIllegalAddress;
  return played::now < event->due ? cudaErrorNotReady : cudaSuccess;
}
inline cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  *memory = ::operator new(bytes);
  played::memory.insert(*memory);
  return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* memory) {
  played::memory.erase(memory);
  ::operator delete(memory);
  return cudaSuccess;
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = played::captures ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

namespace bmatch::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(what);
}

struct CurrentDevice {
  explicit CurrentDevice(int) {}
};

}  // namespace bmatch::cuda
