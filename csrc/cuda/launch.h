// Launches, in nvcc's way or by host/'s fibers, and errors as sentences.
#pragma once

#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>

#include "device.h"

namespace bmatch::cuda {

struct Shape {
  unsigned blocks, threads;
  std::size_t shared_bytes;
  bool cooperative;  // all blocks resident at once
};

#if defined(__CUDACC__)

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // forgotten, so that the next call does not report it again
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), Shape shape, cudaStream_t stream,
            Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.blocks);
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = shape.cooperative ? 1 : 0;
  config.attrs = &together;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), name);
}

inline void clear(void* memory, std::size_t bytes, cudaStream_t stream) {
  check(cudaMemsetAsync(memory, 0, bytes, stream), "clearing memory on the device");
}

// Makes a device current while it lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    check(cudaGetDevice(&before_), "asking for the current device");
    if (device != before_) check(cudaSetDevice(device), "choosing the device");
  }
  ~CurrentDevice() { cudaSetDevice(before_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
};

// What ask(device) says of the current device and a launch; asked once for each.
template <typename Kernel, typename F>
unsigned remembered(Kernel kernel, unsigned threads, std::size_t shared_bytes, F ask) {
  static std::mutex guard;
  static std::map<std::tuple<int, Kernel, unsigned, std::size_t>, unsigned> known;
  int device = 0;
  check(cudaGetDevice(&device), "asking for the current device");
  const std::lock_guard<std::mutex> lock(guard);
  const auto key = std::make_tuple(device, kernel, threads, shared_bytes);
  const auto found = known.find(key);
  return found != known.end() ? found->second : known[key] = ask(device);
}

// Shared memory that a block of a kernel may have at most; allowed to it.
template <typename Kernel>
unsigned ask_shared_bytes(Kernel kernel, int device) {
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "asking for the size of shared memory");
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
        "allowing all of the shared memory");
  return static_cast<unsigned>(most);
}

// Blocks of a kernel that are resident at once.
template <typename Kernel>
unsigned ask_resident_blocks(Kernel kernel, unsigned threads, std::size_t shared_bytes,
                             int device) {
  int processors = 0, each = 0;
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
        "counting multiprocessors");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, static_cast<int>(threads),
                                                      shared_bytes),
        "asking how many blocks are resident");
  return static_cast<unsigned>(processors) * static_cast<unsigned>(each);
}

template <typename Kernel>
std::size_t most_shared_bytes(Kernel kernel) {
  return remembered(kernel, 0, 0, [=](int device) { return ask_shared_bytes(kernel, device); });
}

template <typename Kernel>
unsigned resident_blocks(Kernel kernel, unsigned threads, std::size_t shared_bytes) {
  return remembered(kernel, threads, shared_bytes, [=](int device) {
    return ask_resident_blocks(kernel, threads, shared_bytes, device);
  });
}

#else

template <typename... Parameters, typename... Arguments>
void launch(const char*, void (*kernel)(Parameters...), Shape shape, cudaStream_t,
            Arguments... arguments) {
  host::run({shape.blocks, shape.threads, shape.shared_bytes, shape.cooperative},
            [&] { kernel(Parameters(arguments)...); });
}

inline void clear(void* memory, std::size_t bytes, cudaStream_t) { host::clear(memory, bytes); }

struct CurrentDevice {
  explicit CurrentDevice(int) {}
};

template <typename Kernel>
std::size_t most_shared_bytes(Kernel) {
  return host::device().shared_bytes;
}

template <typename Kernel>
unsigned resident_blocks(Kernel, unsigned, std::size_t) {
  return host::device().resident_blocks;
}

#endif

}  // namespace bmatch::cuda
