// Lets a C++ compiler build the CUDA sources for the host. Right for kernels without barriers,
// shuffles and shared memory: threads run one after the other.
#pragma once
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __launch_bounds__(threads)

struct Index3 { unsigned x, y, z; };
static thread_local Index3 blockIdx, threadIdx;

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

// One call per kernel, with the arguments already bound.
template <typename Call>
static void run_grid(unsigned x, unsigned y, unsigned z, unsigned threads, Call call) {
  for (blockIdx.z = 0; blockIdx.z < z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) call();
}

// Calls a kernel with arguments as the driver does: an array of pointers to them.
template <typename... Parameters, unsigned long... Number>
static void call_kernel(void (*kernel)(Parameters...), void** arguments, const unsigned* grid,
                        unsigned threads, std::integer_sequence<unsigned long, Number...>) {
  run_grid(grid[0], grid[1], grid[2], threads, [&] {
    kernel(*(typename std::remove_const<Parameters>::type*)arguments[Number]...);
  });
}

#define HOST_KERNEL(NAME)                                                                    \
  extern "C" void host_##NAME(void** arguments, const unsigned* grid, unsigned threads) {    \
    host_launch(NAME, arguments, grid, threads);                                             \
  }

template <typename... Parameters>
static void host_launch(void (*kernel)(Parameters...), void** arguments, const unsigned* grid,
                        unsigned threads) {
  call_kernel(kernel, arguments, grid, threads,
              std::make_integer_sequence<unsigned long, sizeof...(Parameters)>());
}
