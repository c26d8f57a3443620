// Gather and scatter between a paged KV cache and chunks. One source for CUDA (NVRTC or nvcc), HIP
// and, through a small header of the tests, the host.
//
// A thread copies words of one plane of one chunk: blockIdx.y is the plane, blockIdx.z the chunk,
// x runs over words in the chunk's order. The host picks the widest word that divides every
// address and stride. No barriers, no shuffles, no shared memory.

typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

// As a struct, clang keeps it in memory for AMD, and waits for every load.
#if defined(__HIP__)
typedef u32 Word16 __attribute__((ext_vector_type(4)));
#else
struct alignas(16) Word16 { u32 x, y, z, w; };
#endif

// What p2p_kernels.launch packs; strides in bytes. A row is a run of bytes that is contiguous on
// both sides, and lies at (block, outer, inner).
struct CopyLayout {
  i64 page_start, page_block, page_outer, page_inner;
  i64 chunk_start, chunk_plane, chunk_block, chunk_outer, chunk_inner;
  u32 blocks, outer, inner, words_per_row;
};

const u32 THREADS = 256;
const u32 WORDS_PER_THREAD = 4;

// Where word `index` of a plane of a chunk lies on either side. False if its block is left out.
__device__ inline bool locate(const CopyLayout& copy, const i64* block_ids, u32 index,
                              u32 word_bytes, i64* in_page, i64* in_chunk) {
  const u32 row = index / copy.words_per_row;
  const u32 word = index - row * copy.words_per_row;
  const u32 pair = row / copy.inner;
  const u32 inner = row - pair * copy.inner;
  const u32 block = pair / copy.outer;
  const u32 outer = pair - block * copy.outer;
  const i64 block_id = block_ids[block];
  if (block_id < 0) return false;
  const i64 in_row = (i64)word * word_bytes;
  *in_page = copy.page_start + block_id * copy.page_block + (i64)outer * copy.page_outer +
             (i64)inner * copy.page_inner + in_row;
  *in_chunk = copy.chunk_start + (i64)block * copy.chunk_block + (i64)outer * copy.chunk_outer +
              (i64)inner * copy.chunk_inner + in_row;
  return true;
}

// Addresses first, then all loads, then all stores, so that a thread has several under way.
template <typename Word, bool TO_CHUNK>
__device__ inline void copy_words(const u64* planes, const u64* slots, const i64* block_ids,
                                  const CopyLayout& copy) {
  const u32 count = copy.blocks * copy.outer * copy.inner * copy.words_per_row;
  const u64 first = (u64)blockIdx.x * (THREADS * WORDS_PER_THREAD) + threadIdx.x;
  const i64* ids = block_ids + (u64)blockIdx.z * copy.blocks;
  char* page = (char*)planes[blockIdx.y];
  char* chunk = (char*)slots[blockIdx.z] + (i64)blockIdx.y * copy.chunk_plane;
  const Word* sources[WORDS_PER_THREAD];
  Word* targets[WORDS_PER_THREAD];
  Word words[WORDS_PER_THREAD];
#pragma unroll
  for (u32 n = 0; n < WORDS_PER_THREAD; ++n) {
    const u64 index = first + n * THREADS;
    i64 in_page, in_chunk;
    targets[n] = nullptr;
    if (index < count &&
        locate(copy, ids, (u32)index, (u32)sizeof(Word), &in_page, &in_chunk)) {
      sources[n] = (const Word*)(TO_CHUNK ? page + in_page : chunk + in_chunk);
      targets[n] = (Word*)(TO_CHUNK ? chunk + in_chunk : page + in_page);
    }
  }
#pragma unroll
  for (u32 n = 0; n < WORDS_PER_THREAD; ++n) {
    if (targets[n] != nullptr) words[n] = *sources[n];
  }
#pragma unroll
  for (u32 n = 0; n < WORDS_PER_THREAD; ++n) {
    if (targets[n] != nullptr) *targets[n] = words[n];
  }
}

#define PAGED_COPY(WIDTH, WORD)                                                                  \
  extern "C" __global__ void __launch_bounds__(256) paged_gather_##WIDTH(                        \
      const u64* planes, const u64* slots, const i64* block_ids, const CopyLayout copy) {        \
    copy_words<WORD, true>(planes, slots, block_ids, copy);                                      \
  }                                                                                              \
  extern "C" __global__ void __launch_bounds__(256) paged_scatter_##WIDTH(                       \
      const u64* planes, const u64* slots, const i64* block_ids, const CopyLayout copy) {        \
    copy_words<WORD, false>(planes, slots, block_ids, copy);                                     \
  }

PAGED_COPY(16, Word16)
PAGED_COPY(8, u64)
PAGED_COPY(4, u32)
PAGED_COPY(2, unsigned short)
PAGED_COPY(1, unsigned char)
