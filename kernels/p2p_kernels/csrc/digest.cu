// XXH3-64 with seed 0 of many equally long leaves, as p2p_kernels.digest_numpy spells it out, for
// leaves above 240 bytes. One source for CUDA, HIP and, through a header of the tests, the host.
//
// Three kernels, so that nothing is shared between threads: the sums of every kilobyte (all in
// parallel, this one reads the memory), the chain over a leaf's kilobytes (a thread per lane), and
// the merging of its eight lanes.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

const u32 STRIPE = 64, STRIPES = 16, BLOCK = STRIPE * STRIPES, AHEAD = 8;
const u64 PRIME32_1 = 0x9e3779b1ULL, PRIME64_1 = 0x9e3779b185ebca87ULL;
const u64 PRIME_MX1 = 0x165667919e3779f9ULL;

__device__ const u64 SECRET[24] = {
    0xbe4ba423396cfeb8ULL, 0x1cad21f72c81017cULL, 0xdb979083e96dd4deULL, 0x1f67b3b7a4a44072ULL,
    0x78e5c0cc4ee679cbULL, 0x2172ffcc7dd05a82ULL, 0x8e2443f7744608b8ULL, 0x4c263a81e69035e0ULL,
    0xcb00c391bb52283cULL, 0xa32e531b8b65d088ULL, 0x4ef90da297486471ULL, 0xd8acdea946ef1938ULL,
    0x3f349ce33f76faa8ULL, 0x1d4f0bc7c7bbdcf9ULL, 0x3159b4cd4be0518aULL, 0x647378d9c97e9fc8ULL,
    0xc3ebd33483acc5eaULL, 0xeb6313faffa081c5ULL, 0x49daf0b751dd0d17ULL, 0x9e68d429265516d3ULL,
    0xfca1477d58be162bULL, 0xce31d07ad1b8f88fULL, 0x280416958f3acb45ULL, 0x7e404bbbcafbd7afULL};
__device__ const u64 LANES[8] = {
    0xc2b2ae3dULL, 0x9e3779b185ebca87ULL, 0xc2b2ae3d27d4eb4fULL, 0x165667b19e3779f9ULL,
    0x85ebca77c2b2ae63ULL, 0x85ebca77ULL, 0x27d4eb2f165667c5ULL, 0x9e3779b1ULL};

// The secret's word at any of its bytes.
__device__ inline u64 secret_at(u32 byte) {
  const u32 word = byte / 8, bits = byte % 8 * 8;
  if (bits == 0) return SECRET[word];
  return (SECRET[word] >> bits) | (SECRET[word + 1] << (64 - bits));
}

template <bool ALIGNED>
__device__ inline u64 load_word(const u8* at) {
  if (ALIGNED) return *(const u64*)at;
  u64 word = 0;
#pragma unroll
  for (u32 n = 0; n < 8; ++n) word |= (u64)at[n] << (8 * n);
  return word;
}

// What one stripe adds to a lane.
template <bool ALIGNED>
__device__ inline u64 stripe_sum(const u8* stripe, u32 lane, u32 secret_byte) {
  const u64 own = load_word<ALIGNED>(stripe + 8 * lane);
  const u64 keyed = own ^ secret_at(secret_byte + 8 * lane);
  return load_word<ALIGNED>(stripe + 8 * (lane ^ 1)) + (keyed & 0xffffffffULL) * (keyed >> 32);
}

// A leaf is looked up by its number over all chunks.
__device__ inline const u8* leaf_at(const u64* slots, u64 leaf, u32 leaves_per_chunk,
                                    u64 leaf_bytes) {
  return (const u8*)slots[leaf / leaves_per_chunk] + leaf % leaves_per_chunk * leaf_bytes;
}

template <bool ALIGNED>
__device__ inline void sum_blocks(const u64* slots, u64* sums, u64 count, u32 leaves_per_chunk,
                                  u64 leaf_bytes) {
  const u64 thread = (u64)blockIdx.x * 256 + threadIdx.x;
  if (thread >= count) return;
  const u32 lane = thread % 8;
  const u64 blocks = (leaf_bytes - 1) / BLOCK;
  const u64 leaf = thread / 8 / blocks, block = thread / 8 % blocks;
  const u8* at = leaf_at(slots, leaf, leaves_per_chunk, leaf_bytes) + block * BLOCK;
  u64 sum = 0;
#pragma unroll
  for (u32 n = 0; n < STRIPES; ++n) sum += stripe_sum<ALIGNED>(at + n * STRIPE, lane, 8 * n);
  sums[thread] = sum;
}

// The loads of several blocks are issued before the first is used: the chain waits for arithmetic.
template <bool ALIGNED>
__device__ inline void chain_lanes(const u64* slots, const u64* sums, u64* lanes, u64 count,
                                   u32 leaves_per_chunk, u64 leaf_bytes) {
  const u64 thread = (u64)blockIdx.x * 256 + threadIdx.x;
  if (thread >= count) return;
  const u32 lane = thread % 8;
  const u64 blocks = (leaf_bytes - 1) / BLOCK, leaf = thread / 8;
  const u64* sum = sums + leaf * blocks * 8 + lane;
  const u64 scramble = secret_at(192 - STRIPE + 8 * lane);
  u64 value = LANES[lane];
  for (u64 block = 0; block < blocks; block += AHEAD) {
    u64 ahead[AHEAD];
#pragma unroll
    for (u32 n = 0; n < AHEAD; ++n) ahead[n] = block + n < blocks ? sum[(block + n) * 8] : 0;
#pragma unroll
    for (u32 n = 0; n < AHEAD; ++n) {
      if (block + n < blocks) {
        value += ahead[n];
        value = (value ^ (value >> 47) ^ scramble) * PRIME32_1;
      }
    }
  }
  const u8* at = leaf_at(slots, leaf, leaves_per_chunk, leaf_bytes);
  const u8* tail = at + blocks * BLOCK;
  const u32 stripes = (u32)((leaf_bytes - 1 - blocks * BLOCK) / STRIPE);
  for (u32 n = 0; n < stripes; ++n) value += stripe_sum<ALIGNED>(tail + n * STRIPE, lane, 8 * n);
  lanes[thread] = value + stripe_sum<ALIGNED>(at + leaf_bytes - STRIPE, lane, 192 - STRIPE - 7);
}

#define DIGEST(WIDTH, ALIGNED)                                                                   \
  extern "C" __global__ void __launch_bounds__(256) digest_sums_##WIDTH(                         \
      const u64* slots, u64* sums, u64 count, u32 leaves_per_chunk, u64 leaf_bytes) {            \
    sum_blocks<ALIGNED>(slots, sums, count, leaves_per_chunk, leaf_bytes);                       \
  }                                                                                              \
  extern "C" __global__ void __launch_bounds__(256) digest_lanes_##WIDTH(                        \
      const u64* slots, const u64* sums, u64* lanes, u64 count, u32 leaves_per_chunk,            \
      u64 leaf_bytes) {                                                                          \
    chain_lanes<ALIGNED>(slots, sums, lanes, count, leaves_per_chunk, leaf_bytes);               \
  }

DIGEST(8, true)
DIGEST(1, false)

extern "C" __global__ void __launch_bounds__(256) digest_merge(const u64* lanes, u64* digests,
                                                               u64 count, u64 leaf_bytes) {
  const u64 leaf = (u64)blockIdx.x * 256 + threadIdx.x;
  if (leaf >= count) return;
  u64 hash = leaf_bytes * PRIME64_1;
#pragma unroll
  for (u32 pair = 0; pair < 4; ++pair) {
    const u64 low = lanes[leaf * 8 + 2 * pair] ^ secret_at(11 + 16 * pair);
    const u64 high = lanes[leaf * 8 + 2 * pair + 1] ^ secret_at(19 + 16 * pair);
    hash += (low * high) ^ __umul64hi(low, high);
  }
  hash = (hash ^ (hash >> 37)) * PRIME_MX1;
  digests[leaf] = hash ^ (hash >> 32);
}
