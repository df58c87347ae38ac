// Convolutions and LSTMs for XLA on the CPU, called through XLA's foreign function interface.
//
// Convolutions are oneDNN's; the gradient by the kernel (where oneDNN has none that is fast) and
// the LSTM are written here. Work is cut into pieces that run on XLA's own threads, and oneDNN sees
// one thread in each: a second pool of threads would spin for work while XLA needs the cores.
// What a picture gets depends, but for rounding, neither on its neighbours nor on the number of
// threads.

#include <omp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using dnnl::memory;
using F32 = ffi::Buffer<ffi::F32>;
using S32 = ffi::Buffer<ffi::S32>;

namespace {

// ---------------------------------------------------------------------------------- threads

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// OpenMP as oneDNN sees it in this scope: one thread, and no other caller is affected.
struct OneThread {
  const int before = omp_get_max_threads();
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before); }
};

// Runs f(0) .. f(count - 1) on the pool and on this thread. This thread takes pieces too and waits
// only for those that have begun, so that callers that run on the pool themselves cannot block it.
void parallel_for(ffi::ThreadPool& pool, int64_t count, std::function<void(int64_t)> f) {
  struct Shared {
    std::function<void(int64_t)> f;
    std::atomic<int64_t> next{0}, left;
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto shared = std::make_shared<Shared>();
  shared->f = std::move(f);
  shared->left = count;
  std::function<void()> work = [shared, count] {
    OneThread scope;
    for (int64_t i; (i = shared->next++) < count;) {
      shared->f(i);
      if (--shared->left == 0) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        shared->finished.notify_all();
      }
    }
  };
  const int64_t helpers = std::min<int64_t>(count, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(std::function<void()>(work));
  work();
  // Nearly done: going to sleep and being woken would take longer than most convolutions.
  for (int spin = 0; spin < 2000 && shared->left > 0; ++spin) relax();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->left == 0; });
}

// Floats of one call, from memory that the thread keeps: fresh pages would cost more than the work.
class Scratch {
 public:
  explicit Scratch(size_t size) {
    auto& kept = buffers();
    auto best = kept.end();  // the smallest that is large enough
    for (auto i = kept.begin(); i != kept.end(); ++i)
      if (i->size >= size && (best == kept.end() || i->size < best->size)) best = i;
    if (best != kept.end()) {
      buffer_ = std::move(*best);
      kept.erase(best);
    } else {
      buffer_.size = size;
      buffer_.data.reset(
          static_cast<float*>(std::aligned_alloc(64, (size * sizeof(float) + 63) / 64 * 64)));
    }
  }
  Scratch(Scratch&&) = delete;
  Scratch& operator=(Scratch&& other) {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ~Scratch() {
    if (buffer_.size) buffers().push_back(std::move(buffer_));
  }
  float* get() const { return buffer_.data.get(); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  struct Buffer {
    size_t size = 0;
    std::unique_ptr<float, Free> data;
  };
  static std::vector<Buffer>& buffers() {
    static thread_local std::vector<Buffer> kept;
    return kept;
  }
  Buffer buffer_;
};

// ---------------------------------------------------------------------------------- vectors

#if defined(__AVX512F__)
constexpr int VL = 16;  // floats of a vector
#elif defined(__AVX__)
constexpr int VL = 8;
#else
constexpr int VL = 4;
#endif
typedef float Vec __attribute__((vector_size(VL * 4)));
typedef float UnalignedVec __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(VL * 4)));

inline Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
inline Vec fill(float x) { return x - Vec{}; }  // minus zero changes nothing, not even -0

// e^x to 2 units in the last place, for x in [-87, 87]; beyond, that of the nearer end.
inline Vec exponential(Vec x) {
  x = x > 87.0f ? fill(87.0f) : x;
  x = x < -87.0f ? fill(-87.0f) : x;
  const Vec shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const Vec n = shifted - 12582912.0f;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = fill(1.9875691500e-4f);
  for (float c :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = p * r + c;
  p = p * (r * r) + r + 1.0f;
  const IntVec exponent = __builtin_convertvector(n, IntVec) << 23;
  return (Vec)((IntVec)p + exponent);
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }
inline Vec tanh(Vec x) { return 1.0f - 2.0f / (1.0f + exponential(x + x)); }

// acc[m][j] += sum over k of a[m][k] * panel[k][j], four vectors wide.
template <int M>
inline void multiply(const float* a, int64_t a_row, const float* panel, int64_t depth,
                     Vec (&acc)[M][4]) {
  for (int64_t k = 0; k < depth; ++k, panel += 4 * VL) {
    Vec left[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) left[m] = fill(a[m * a_row + k]);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Vec right = load(panel + j * VL);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) acc[m][j] += left[m] * right;
    }
  }
}

constexpr int kRows = VL == 16 ? 6 : 3;  // so that acc, left and right fit the registers

// Calls f with blocks of kRows rows, then of the one to kRows - 1 that are left.
template <typename F>
inline void by_rows(int64_t rows, F f) {
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) f(std::integral_constant<int, kRows>(), row);
  for (; row < rows; ++row) f(std::integral_constant<int, 1>(), row);
}

// ---------------------------------------------------------------------------------- products

// out = a b, with b [depth, columns] read by strides, so that it may be turned, or packed already.
struct Product {
  int64_t rows, depth, columns;
  const float *a, *b;
  int64_t b_row, b_column;
  float* out;
  const float* panels = nullptr;

  static constexpr int64_t kColumns = 4 * VL;
  int64_t tiles() const { return (columns + kColumns - 1) / kColumns; }

  // The columns of one tile, [depth, kColumns].
  void pack(int64_t tile, float* to) const {
    const int64_t first = tile * kColumns, count = std::min(kColumns, columns - first);
    if (count < kColumns) std::fill_n(to, depth * kColumns, 0.0f);
    if (b_column == 1) {
      for (int64_t k = 0; k < depth; ++k)
        std::copy_n(b + k * b_row + first, count, to + k * kColumns);
    } else {
      for (int64_t j = 0; j < count; ++j)
        for (int64_t k = 0; k < depth; ++k)
          to[k * kColumns + j] = b[k * b_row + (first + j) * b_column];
    }
  }

  void run(ffi::ThreadPool& pool) const {
    parallel_for(pool, tiles(), [&](int64_t tile) {
      const int64_t first = tile * kColumns, count = std::min(kColumns, columns - first);
      Scratch own(panels ? 0 : depth * kColumns);
      const float* panel = panels ? panels + tile * depth * kColumns : own.get();
      if (!panels) pack(tile, own.get());
      by_rows(rows, [&](auto block, int64_t row) {
        constexpr int M = decltype(block)::value;
        Vec acc[M][4] = {};
        multiply<M>(a + row * depth, depth, panel, depth, acc);
        for (int m = 0; m < M; ++m) {
          float* to = out + (row + m) * columns + first;
          for (int j = 0; j < 4; ++j)
            if ((j + 1) * VL <= count)
              store(to + j * VL, acc[m][j]);
            else
              for (int64_t c = j * VL; c < count; ++c) to[c] = acc[m][j][c - j * VL];
        }
      });
    });
  }
};

// The gradient by a kernel, dk[i, j, a, c] = sum over pixels of x[y + i, x + j, a] * dy[y, x, c],
// and by a bias, db[c] = sum of dy[c].
struct KernelGradient {
  int64_t n, h, w, ci, x_stride;  // x [n, h, w, x_stride], of which ci count
  int64_t kh, kw, pad;
  int64_t co, dy_stride;
  const float *x, *dy;
  float *dk, *db;
  int64_t dk_row;  // of one (i, j, a)

  static constexpr int kIn = 6, kOut = 2 * VL;  // a tile of dk in registers

  template <int R>
  static void tile(const float* x, int64_t x_row, const float* dy, int64_t rows, int64_t width,
                   float* dk) {
    Vec acc[R][2];
    for (int r = 0; r < R; ++r)
      acc[r][0] = load(dk + r * kOut), acc[r][1] = load(dk + r * kOut + VL);
    for (; rows > 0; --rows, x += x_row) {
      const float* pixel = x;
      for (int64_t p = 0; p < width; ++p, pixel += kIn, dy += kOut) {
        const Vec left = load(dy), right = load(dy + VL);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) acc[r][0] += left * pixel[r], acc[r][1] += right * pixel[r];
      }
    }
    for (int r = 0; r < R; ++r)
      store(dk + r * kOut, acc[r][0]), store(dk + r * kOut + VL, acc[r][1]);
  }

  template <int R = kIn>
  static void tile(int64_t channels, const float* x, int64_t x_row, const float* dy, int64_t rows,
                   int64_t width, float* dk) {
    if (channels == R) return tile<R>(x, x_row, dy, rows, width, dk);
    if constexpr (R > 1) tile<R - 1>(channels, x, x_row, dy, rows, width, dk);
  }

  void run(ffi::ThreadPool& pool) const {
    const int64_t oh = h + 2 * pad - kh + 1, ow = w + 2 * pad - kw + 1;
    const int64_t ph = h + 2 * pad, pw = w + 2 * pad;
    const int64_t tiles = (ci + kIn - 1) / kIn, panels = (co + kOut - 1) / kOut;
    // x as [n, tile, ph, pw, kIn], zeros around it and behind the last channel.
    const int64_t plane = ph * pw * kIn;
    Scratch packed(n * tiles * plane);
    parallel_for(pool, n, [&](int64_t i) {
      float* to = packed.get() + i * tiles * plane;
      if (pad || ci % kIn) std::memset(to, 0, tiles * plane * sizeof(float));
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t count = std::min<int64_t>(kIn, ci - t * kIn);
        for (int64_t r = 0; r < h; ++r) {
          const float* from = x + (i * h + r) * w * x_stride + t * kIn;
          float* row = to + t * plane + ((r + pad) * pw + pad) * kIn;
          if (count == kIn)
            for (int64_t c = 0; c < w; ++c)
              std::memcpy(row + c * kIn, from + c * x_stride, kIn * 4);
          else
            for (int64_t c = 0; c < w; ++c) std::copy_n(from + c * x_stride, count, row + c * kIn);
        }
      }
    });
    const int64_t rows =
        std::clamp<int64_t>(256 / ow, 1, oh);  // of dy at a time, for the first cache
    parallel_for(pool, panels, [&](int64_t p) {
      const int64_t count = std::min<int64_t>(kOut, co - p * kOut);
      Scratch panel(oh * ow * kOut), sums(kh * kw * tiles * kIn * kOut);
      std::memset(sums.get(), 0, kh * kw * tiles * kIn * kOut * sizeof(float));
      if (count < kOut) std::memset(panel.get(), 0, oh * ow * kOut * sizeof(float));
      Vec bias[2] = {};
      for (int64_t i = 0; i < n; ++i) {
        const float* from = dy + i * oh * ow * dy_stride + p * kOut;
        for (int64_t q = 0; q < oh * ow; ++q) {
          float* to = panel.get() + q * kOut;
          if (count == kOut)
            store(to, load(from + q * dy_stride)), store(to + VL, load(from + q * dy_stride + VL));
          else
            std::copy_n(from + q * dy_stride, count, to);
          bias[0] += load(to), bias[1] += load(to + VL);
        }
        for (int64_t row = 0; row < oh; row += rows) {
          const int64_t here = std::min(rows, oh - row);
          for (int64_t t = 0; t < tiles; ++t)
            for (int64_t k = 0; k < kh * kw; ++k) {
              const int64_t top = row + k / kw, left = k % kw;
              const float* in = packed.get() + (i * tiles + t) * plane + (top * pw + left) * kIn;
              float* out = sums.get() + (k * tiles + t) * kIn * kOut;
              const float* d = panel.get() + row * ow * kOut;
              tile(std::min<int64_t>(kIn, ci - t * kIn), in, pw * kIn, d, here, ow, out);
            }
        }
      }
      for (int64_t k = 0; k < kh * kw; ++k)
        for (int64_t a = 0; a < ci; ++a)
          std::copy_n(sums.get() + (k * tiles * kIn + a) * kOut, count,
                      dk + (k * ci + a) * dk_row + p * kOut);
      float both[kOut];
      store(both, bias[0]), store(both + VL, bias[1]);
      std::copy_n(both, count, db + p * kOut);
    });
  }
};

// y = max(conv(x, kernel) + shift, 0), and 0 in columns at or right of a picture's width: for fewer
// pictures than threads, cut by output channels. Kernels come packed, or are on the way.
struct FewConvolutions {
  int64_t n, h, w, ci, size, co, padding;
  const float *x, *kernel, *panels, *shift;
  const int32_t* width;  // null: neither max nor zeros
  float* y;

  static constexpr int kPixels = VL == 16 ? 12 : 6, kOut = 2 * VL;  // a tile of y in registers
  static constexpr int64_t kDepth = 256;  // of weights that stay in the first cache
  int64_t tiles() const { return (co + kOut - 1) / kOut; }
  int64_t depth() const { return size * size * ci; }

  // The kernel's part for one tile of output channels, [size, size, ci, kOut].
  void pack(int64_t tile, float* to) const {
    const int64_t first = tile * kOut, count = std::min<int64_t>(kOut, co - first);
    if (count < kOut) std::fill_n(to, depth() * kOut, 0.0f);
    for (int64_t k = 0; k < depth(); ++k)
      std::copy_n(kernel + k * co + first, count, to + k * kOut);
  }

  // sums[m] += in[m, k] * weights[k] over a part of the depth.
  template <int M>
  static void tile(const float* in, int64_t pixel, const float* weights, int64_t depth,
                   float* sums) {
    Vec acc[M][2];
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m)
      acc[m][0] = load(sums + m * kOut), acc[m][1] = load(sums + m * kOut + VL);
    for (int64_t k = 0; k < depth; ++k, weights += kOut) {
      const Vec left = load(weights), right = load(weights + VL);
#pragma GCC unroll 12
      for (int m = 0; m < M; ++m) {
        const Vec value = fill(in[m * pixel + k]);
        acc[m][0] += value * left, acc[m][1] += value * right;
      }
    }
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m)
      store(sums + m * kOut, acc[m][0]), store(sums + m * kOut + VL, acc[m][1]);
  }

  template <int M = kPixels>
  static void tile(int64_t pixels, const float* in, int64_t pixel, const float* weights,
                   int64_t depth, float* sums) {
    if (pixels == M) return tile<M>(in, pixel, weights, depth, sums);
    if constexpr (M > 1) tile<M - 1>(pixels, in, pixel, weights, depth, sums);
  }

  void run(ffi::ThreadPool& pool) const {
    const int64_t pw = w + 2 * padding, ph = h + 2 * padding, oh = ph - size + 1,
                  ow = pw - size + 1;
    const int64_t columns = (ow + kPixels - 1) / kPixels;
    const int64_t groups = std::min<int64_t>(tiles(), (pool.num_threads() + n - 1) / n);
    parallel_for(pool, n * groups, [&](int64_t piece) {
      const int64_t image = piece / groups, group = piece % groups;
      Scratch padded(ph * pw * ci), own(panels ? 0 : depth() * kOut), sums(oh * ow * kOut);
      if (padding) std::fill_n(padded.get(), ph * pw * ci, 0.0f);
      for (int64_t r = 0; r < h; ++r)
        std::copy_n(x + (image * h + r) * w * ci, w * ci,
                    padded.get() + ((r + padding) * pw + padding) * ci);
      for (int64_t t = tiles() * group / groups; t < tiles() * (group + 1) / groups; ++t) {
        const float* weights = panels ? panels + t * depth() * kOut : own.get();
        if (!panels) pack(t, own.get());
        std::fill_n(sums.get(), oh * ow * kOut, 0.0f);
        for (int64_t i = 0; i < size; ++i)
          for (int64_t k = 0; k < size * ci; k += kDepth)  // columns lie side by side
            for (int64_t r = 0; r < oh; ++r)
              for (int64_t c = 0; c < columns; ++c) {
                const int64_t first = ow * c / columns;
                tile(ow * (c + 1) / columns - first, padded.get() + ((r + i) * pw + first) * ci + k,
                     ci, weights + (i * size * ci + k) * kOut, std::min(kDepth, size * ci - k),
                     sums.get() + (r * ow + first) * kOut);
              }
        const int64_t count = std::min<int64_t>(kOut, co - t * kOut);
        float bias[kOut] = {};
        std::copy_n(shift + t * kOut, count, bias);
        for (int64_t q = 0; q < oh * ow; ++q) {
          float both[kOut];
          const bool real = !width || q % ow < width[image];
          for (int v = 0; v < kOut; v += VL) {
            Vec sum = load(sums.get() + q * kOut + v) + load(bias + v);
            if (width) sum = sum < 0.0f ? Vec{} : sum;  // NaN stays NaN
            store(both + v, real ? sum : Vec{});
          }
          std::copy_n(both, count, y + (image * oh * ow + q) * co + t * kOut);
        }
      }
    });
  }
};

// ---------------------------------------------------------------------------------- LSTM

// Both directions of an LSTM over x [t, b, size]. Gates [t, b, 8 h] are i, f, g, o of the forward,
// then of the backward direction. Frames at or behind a row's length hold nothing: output, cell and
// gates are 0, so that the backward direction reaches the real end with a fresh state.
struct Lstm {
  int64_t t, b, size, h, chunks;

  Lstm(F32::Dimensions x, int64_t gates, const ffi::ThreadPool& pool)
      : t(x[0]),
        b(x[1]),
        size(x[2]),
        h(gates / 8),
        chunks(std::clamp<int64_t>(pool.num_threads() / 2, 1, b)) {}

  int64_t frame(int64_t step, int64_t direction) const { return direction ? t - 1 - step : step; }

  // Runs f(direction, first row, rows) for all rows of both.
  template <typename F>
  void for_each(ffi::ThreadPool& pool, F f) const {
    parallel_for(pool, 2 * chunks, [&](int64_t i) {
      const int64_t from = b * (i / 2) / chunks;
      f(i % 2, from, b * (i / 2 + 1) / chunks - from);
    });
  }
};

// The recurrent kernel [2, h, 4 h] as panels [direction, tile of VL units, h, gate, VL].
void pack_recurrent(ffi::ThreadPool& pool, int64_t h, const float* recurrent, float* panels) {
  const int64_t tiles = h / VL;
  parallel_for(pool, 2 * tiles, [&](int64_t i) {
    const float* from = recurrent + i / tiles * h * 4 * h + i % tiles * VL;
    float* to = panels + i * h * 4 * VL;
    for (int64_t k = 0; k < h; ++k)
      for (int64_t g = 0; g < 4; ++g) store(to + (k * 4 + g) * VL, load(from + (k * 4 + g) * h));
  });
}

// Kernels as LstmForward takes them flat.
ffi::Error LstmPack(ffi::ThreadPool pool, F32 kernel, F32 recurrent, ffi::Result<F32> packed_kernel,
                    ffi::Result<F32> packed_recurrent) {
  const int64_t size = kernel.dimensions()[0], gates = kernel.dimensions()[1];
  const Product product{0, size, gates, nullptr, kernel.typed_data(), gates, 1, nullptr};
  parallel_for(pool, product.tiles(), [&](int64_t tile) {
    product.pack(tile, packed_kernel->typed_data() + tile * size * Product::kColumns);
  });
  pack_recurrent(pool, gates / 8, recurrent.typed_data(), packed_recurrent->typed_data());
  return ffi::Error::Success();
}

ffi::Error LstmForward(ffi::ThreadPool pool, F32 x, F32 kernel, F32 recurrent, F32 bias,
                       S32 lengths, ffi::Result<F32> hs, ffi::Result<F32> cs,
                       ffi::Result<F32> gates) {
  const Lstm l(x.dimensions(), bias.element_count(), pool);
  const int64_t h = l.h, tiles = h / VL;
  const bool save = gates->element_count() > 0, packed = kernel.dimensions().size() == 1;
  Scratch z(l.t * l.b * 8 * h);  // the input's share of the gates
  Product{l.t * l.b,
          l.size,
          8 * h,
          x.typed_data(),
          kernel.typed_data(),
          8 * h,
          1,
          z.get(),
          packed ? kernel.typed_data() : nullptr}
      .run(pool);
  Scratch own(packed ? 0 : recurrent.element_count());
  if (!packed) pack_recurrent(pool, h, recurrent.typed_data(), own.get());
  const float* panels = packed ? recurrent.typed_data() : own.get();
  l.for_each(pool, [&](int64_t d, int64_t first, int64_t rows) {
    Scratch cells(rows * h);
    std::memset(cells.get(), 0, rows * h * sizeof(float));
    for (int64_t step = 0; step < l.t; ++step) {
      const int64_t now = l.frame(step, d) * l.b + first,
                    before = l.frame(step - 1, d) * l.b + first;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const float* panel = panels + (d * tiles + tile) * h * 4 * VL;
        by_rows(rows, [&](auto block, int64_t row) {
          constexpr int M = decltype(block)::value;
          Vec acc[M][4];
          for (int m = 0; m < M; ++m)
            for (int g = 0; g < 4; ++g) {
              const int64_t column = (d * 4 + g) * h + tile * VL;
              acc[m][g] = load(z.get() + (now + row + m) * 8 * h + column) +
                          load(bias.typed_data() + column);
            }
          if (step > 0)
            multiply<M>(hs->typed_data() + (before + row) * 2 * h + d * h, 2 * h, panel, h, acc);
          for (int m = 0; m < M; ++m) {
            const bool real = l.frame(step, d) < lengths.typed_data()[first + row + m];
            float* cell = cells.get() + (row + m) * h + tile * VL;
            const int64_t at = (now + row + m) * 2 * h + d * h + tile * VL;
            Vec i{}, f{}, g{}, o{}, c{}, out{};
            if (real) {
              i = sigmoid(acc[m][0]), f = sigmoid(acc[m][1]), g = tanh(acc[m][2]),
              o = sigmoid(acc[m][3]);
              c = f * load(cell) + i * g;
              out = o * tanh(c);
            }
            store(cell, c);
            store(hs->typed_data() + at, out);
            if (save) {
              store(cs->typed_data() + at, c);
              float* to = gates->typed_data() + (now + row + m) * 8 * h + d * 4 * h + tile * VL;
              store(to, i), store(to + h, f), store(to + 2 * h, g), store(to + 3 * h, o);
            }
          }
        });
      }
    }
  });
  return ffi::Error::Success();
}

ffi::Error LstmBackward(ffi::ThreadPool pool, F32 d_hs, F32 x, F32 kernel, F32 recurrent, F32 hs,
                        F32 cs, F32 gates, ffi::Result<F32> dx, ffi::Result<F32> d_kernel,
                        ffi::Result<F32> d_recurrent, ffi::Result<F32> d_bias) {
  const Lstm l(x.dimensions(), kernel.dimensions()[1], pool);
  const int64_t h = l.h, groups = (h + 4 * VL - 1) / (4 * VL);
  Scratch dz(l.t * l.b * 8 * h);
  // The recurrent kernel turned: [direction, group, 4 h, 4 VL].
  Scratch panels(2 * groups * 4 * h * 4 * VL);
  parallel_for(pool, 2 * groups, [&](int64_t i) {
    const float* from = recurrent.typed_data() + i / groups * h * 4 * h;
    float* to = panels.get() + i * 4 * h * 4 * VL;
    for (int64_t j = 0; j < 4 * VL; ++j) {
      const int64_t unit = i % groups * 4 * VL + j;
      for (int64_t k = 0; k < 4 * h; ++k)
        to[k * 4 * VL + j] = unit < h ? from[unit * 4 * h + k] : 0.0f;
    }
  });
  l.for_each(pool, [&](int64_t d, int64_t first, int64_t rows) {
    Scratch d_cells(rows * h), d_outs(rows * h);  // what comes back through the state
    std::memset(d_cells.get(), 0, rows * h * sizeof(float));
    std::memset(d_outs.get(), 0, rows * h * sizeof(float));
    for (int64_t step = l.t - 1; step >= 0; --step) {
      const int64_t now = l.frame(step, d) * l.b + first,
                    before = l.frame(step - 1, d) * l.b + first;
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t u = 0; u < h; u += VL) {
          const int64_t at = (now + row) * 2 * h + d * h + u;
          const float* gate = gates.typed_data() + (now + row) * 8 * h + d * 4 * h + u;
          const Vec i = load(gate), f = load(gate + h), g = load(gate + 2 * h),
                    o = load(gate + 3 * h);
          const Vec tanh_c = tanh(load(cs.typed_data() + at));
          const Vec c_before =
              step ? load(cs.typed_data() + (before + row) * 2 * h + d * h + u) : Vec{};
          const Vec d_h = load(d_outs.get() + row * h + u) + load(d_hs.typed_data() + at);
          const Vec d_c = load(d_cells.get() + row * h + u) + d_h * o * (1.0f - tanh_c * tanh_c);
          float* to = dz.get() + (now + row) * 8 * h + d * 4 * h + u;
          store(to, d_c * g * i * (1.0f - i));
          store(to + h, d_c * c_before * f * (1.0f - f));
          store(to + 2 * h, d_c * i * (1.0f - g * g));
          store(to + 3 * h, d_h * tanh_c * o * (1.0f - o));
          store(d_cells.get() + row * h + u, d_c * f);
        }
      if (step == 0) break;
      for (int64_t group = 0; group < groups; ++group)
        by_rows(rows, [&](auto block, int64_t row) {
          constexpr int M = decltype(block)::value;
          Vec acc[M][4] = {};
          multiply<M>(dz.get() + (now + row) * 8 * h + d * 4 * h, 8 * h,
                      panels.get() + (d * groups + group) * 4 * h * 4 * VL, 4 * h, acc);
          for (int m = 0; m < M; ++m)
            for (int j = 0; j < 4 && (group * 4 + j) * VL < h; ++j)
              store(d_outs.get() + (row + m) * h + (group * 4 + j) * VL, acc[m][j]);
        });
    }
  });
  Product{l.t * l.b, 8 * h, l.size, dz.get(), kernel.typed_data(), 1, 8 * h, dx->typed_data()}.run(
      pool);
  KernelGradient{1,
                 l.t,
                 l.b,
                 l.size,
                 l.size,
                 1,
                 1,
                 0,
                 8 * h,
                 8 * h,
                 x.typed_data(),
                 dz.get(),
                 d_kernel->typed_data(),
                 d_bias->typed_data(),
                 8 * h}
      .run(pool);
  Scratch unused(4 * h);
  for (int64_t d = 0; d < 2; ++d) {
    // The output of one step meets the gates of the next.
    const int64_t later = d ? 0 : l.b, earlier = d ? l.b : 0;
    KernelGradient{1,
                   l.t - 1,
                   l.b,
                   h,
                   2 * h,
                   1,
                   1,
                   0,
                   4 * h,
                   8 * h,
                   hs.typed_data() + earlier * 2 * h + d * h,
                   dz.get() + later * 8 * h + d * 4 * h,
                   d_recurrent->typed_data() + d * h * 4 * h,
                   unused.get(),
                   4 * h}
        .run(pool);
  }
  return ffi::Error::Success();
}

// ---------------------------------------------------------------------------------- convolutions

using Dims = ffi::AnyBuffer::Dimensions;
using Type = memory::data_type;

enum Kind { kForward, kBackwardInput, kBackwardKernel };

struct Shape {
  int64_t n, h, w, ci, size, co, padding;  // a kernel of [size, size, ci, co]
  bool relu;
  Type type;
  int64_t out_h() const { return h + 2 * padding - size + 1; }
  int64_t out_w() const { return w + 2 * padding - size + 1; }
};

Shape shape_of(Dims x, int64_t size, int64_t co, int64_t padding, bool relu, ffi::DataType type) {
  const Type t = type == ffi::DataType::BF16 ? Type::bf16 : Type::f32;
  return {x[0], x[1], x[2], x[3], size, co, padding, relu, t};
}

struct Convolution {
  dnnl::primitive primitive;
  memory::desc input, kernel, output, bias, scratchpad;
};

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

dnnl::stream& stream() {
  static thread_local dnnl::stream s(engine());
  return s;
}

// Made once. Called where OpenMP is set to one thread: a primitive keeps the number it was made
// for.
const Convolution& convolution(const Shape& s, Kind kind) {
  static std::mutex mutex;
  static std::map<std::array<int64_t, 10>, Convolution> made;
  const std::array<int64_t, 10> key{
      s.n, s.h, s.w, s.ci, s.size, s.co, s.padding, s.relu, int64_t(s.type), kind};
  std::lock_guard<std::mutex> lock(mutex);
  if (auto found = made.find(key); found != made.end()) return found->second;
  using tag = memory::format_tag;
  const memory::dims k_dims{s.co, s.ci, s.size, s.size}, stride{1, 1};
  const memory::dims around{s.padding, s.padding};
  const memory::desc x({s.n, s.ci, s.h, s.w}, s.type, tag::nhwc);
  const memory::desc y({s.n, s.co, s.out_h(), s.out_w()}, s.type, tag::nhwc);
  const memory::desc k(k_dims, s.type, tag::any), b({s.co}, Type::f32, tag::x);
  const auto algorithm = dnnl::algorithm::convolution_direct;
  dnnl::primitive_attr attr, plain;
  plain.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // several threads run one primitive
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.relu) {
    dnnl::post_ops ops;
    ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
    attr.set_post_ops(ops);
  }
  const dnnl::convolution_forward::primitive_desc forward(
      engine(), dnnl::prop_kind::forward_training, algorithm, x, k, b, y, stride, around, around,
      kind == kForward ? attr : plain);
  Convolution c;
  if (kind == kForward) {
    c = {dnnl::convolution_forward(forward), x, forward.weights_desc(), y, b,
         forward.scratchpad_desc()};
  } else if (kind == kBackwardInput) {
    const dnnl::convolution_backward_data::primitive_desc d(engine(), algorithm, x, k, y, stride,
                                                            around, around, forward, plain);
    c = {dnnl::convolution_backward_data(d), x, d.weights_desc(), y, b, d.scratchpad_desc()};
  } else {
    const memory::desc dk(k_dims, Type::f32, tag::any);  // sums are float32 whatever x is
    const dnnl::convolution_backward_weights::primitive_desc d(
        engine(), algorithm, x, dk, b, y, stride, around, around, forward, plain);
    c = {
        dnnl::convolution_backward_weights(d), x, d.diff_weights_desc(), y, b, d.scratchpad_desc()};
  }
  return made.emplace(key, std::move(c)).first->second;
}

void execute(const Convolution& c, std::unordered_map<int, memory> arguments) {
  Scratch scratchpad(c.scratchpad.get_size() / sizeof(float) + 1);
  arguments.insert({DNNL_ARG_SCRATCHPAD, memory(c.scratchpad, engine(), scratchpad.get())});
  c.primitive.execute(stream(), arguments);
  stream().wait();
}

memory::desc hwio(const Shape& s, Type type) {
  return memory::desc({s.co, s.ci, s.size, s.size}, type, memory::format_tag::hwio);
}

// `data` in the layout that is wanted: itself, or a copy in `own`.
void* arranged(const memory::desc& given, void* data, const memory::desc& wanted, Scratch& own) {
  if (wanted == given) return data;
  own = Scratch(wanted.get_size() / sizeof(float) + 1);
  memory from(given, engine(), data), to(wanted, engine(), own.get());
  dnnl::reorder(from, to).execute(stream(), from, to);
  stream().wait();
  return own.get();
}

char* at(void* data, int64_t elements, Type type) {
  return static_cast<char*>(data) + elements * memory::data_type_size(type);
}

// A piece of a batch: some pictures, and a primitive for them.
struct Piece {
  int64_t image, images;
  const Convolution* convolution;
};

// Made before the work is handed out: here an error can still be told.
std::vector<Piece> pieces_of(const Shape& whole, Kind kind, int64_t threads) {
  OneThread scope;
  const int64_t most =
      threads * ((whole.n + 8 * threads - 1) / (8 * threads));  // of 8 pictures or fewer
  const int64_t count = std::min(whole.n, most);
  std::vector<Piece> pieces;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = whole.n * i / count;
    Shape s = whole;
    s.n = whole.n * (i + 1) / count - from;
    pieces.push_back({from, s.n, &convolution(s, kind)});
  }
  return pieces;
}

// y = conv(x, kernel) + bias; with `relu` also max(y, 0), and 0 in columns at or right of width.
// `panels` is empty, or what ConvPack made of the kernel.
ffi::Error ConvForward(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer kernel, F32 panels,
                       F32 bias, S32 width, ffi::Result<ffi::AnyBuffer> y, int64_t padding,
                       bool relu) try {
  const Dims k = kernel.dimensions();
  const Shape whole = shape_of(x.dimensions(), k[0], k[3], padding, relu, x.element_type());
  if (whole.n < pool.num_threads() && whole.type == Type::f32) {
    FewConvolutions{whole.n,
                    whole.h,
                    whole.w,
                    whole.ci,
                    k[0],
                    whole.co,
                    padding,
                    static_cast<const float*>(x.untyped_data()),
                    static_cast<const float*>(kernel.untyped_data()),
                    panels.element_count() ? panels.typed_data() : nullptr,
                    bias.typed_data(),
                    relu ? width.typed_data() : nullptr,
                    static_cast<float*>(y->untyped_data())}
        .run(pool);
    return ffi::Error::Success();
  }
  const int64_t out_h = whole.out_h(), out_w = whole.out_w();
  const auto pieces = pieces_of(whole, kForward, pool.num_threads());
  const memory::desc given = hwio(whole, whole.type), &wanted = pieces[0].convolution->kernel;
  Scratch own(0);
  void* weights = arranged(given, kernel.untyped_data(), wanted, own);
  parallel_for(pool, pieces.size(), [&](int64_t i) {
    const auto& [image, images, c] = pieces[i];
    Scratch other(0);
    void* kernel_here =
        c->kernel == wanted ? weights : arranged(given, kernel.untyped_data(), c->kernel, other);
    char* from = at(x.untyped_data(), image * whole.h * whole.w * whole.ci, whole.type);
    char* to = at(y->untyped_data(), image * out_h * out_w * whole.co, whole.type);
    execute(*c, {{DNNL_ARG_SRC, memory(c->input, engine(), from)},
                 {DNNL_ARG_WEIGHTS, memory(c->kernel, engine(), kernel_here)},
                 {DNNL_ARG_BIAS, memory(c->bias, engine(), bias.untyped_data())},
                 {DNNL_ARG_DST, memory(c->output, engine(), to)}});
    const size_t pixel = whole.co * memory::data_type_size(whole.type);
    for (int64_t row = 0; relu && row < images * out_h; ++row) {
      const int64_t real = std::clamp<int64_t>(width.typed_data()[image + row / out_h], 0, out_w);
      std::memset(to + (row * out_w + real) * pixel, 0, (out_w - real) * pixel);
    }
  });
  return ffi::Error::Success();
} catch (const dnnl::error& error) {
  return ffi::Error::Internal(error.what());
}

ffi::Error ConvPack(F32 kernel, ffi::Result<F32> panels) {
  const Dims k = kernel.dimensions();
  FewConvolutions c{};
  c.ci = k[2], c.size = k[0], c.co = k[3], c.kernel = kernel.typed_data();
  for (int64_t t = 0; t < c.tiles(); ++t)
    c.pack(t, panels->typed_data() + t * c.depth() * FewConvolutions::kOut);
  return ffi::Error::Success();
}

ffi::Error ConvBackwardInput(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer kernel,
                             ffi::Result<ffi::AnyBuffer> dx, int64_t padding) try {
  const Dims k = kernel.dimensions();
  const Shape whole = shape_of(dx->dimensions(), k[0], k[3], padding, false, dy.element_type());
  const auto pieces = pieces_of(whole, kBackwardInput, pool.num_threads());
  const memory::desc given = hwio(whole, whole.type), &wanted = pieces[0].convolution->kernel;
  Scratch own(0);
  void* weights = arranged(given, kernel.untyped_data(), wanted, own);
  parallel_for(pool, pieces.size(), [&](int64_t i) {
    const auto& [image, images, c] = pieces[i];
    Scratch other(0);
    void* kernel_here =
        c->kernel == wanted ? weights : arranged(given, kernel.untyped_data(), c->kernel, other);
    void* from =
        at(dy.untyped_data(), image * whole.out_h() * whole.out_w() * whole.co, whole.type);
    void* to = at(dx->untyped_data(), image * whole.h * whole.w * whole.ci, whole.type);
    execute(*c, {{DNNL_ARG_DIFF_DST, memory(c->output, engine(), from)},
                 {DNNL_ARG_WEIGHTS, memory(c->kernel, engine(), kernel_here)},
                 {DNNL_ARG_DIFF_SRC, memory(c->input, engine(), to)}});
  });
  return ffi::Error::Success();
} catch (const dnnl::error& error) {
  return ffi::Error::Internal(error.what());
}

ffi::Error ConvBackwardKernel(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                              ffi::Result<F32> dk, ffi::Result<F32> db, int64_t padding) try {
  const Dims k = dk->dimensions();
  const Shape whole = shape_of(x.dimensions(), k[0], k[3], padding, false, x.element_type());
  const bool wide = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
  if (whole.type == Type::f32 && whole.ci > 1 && !wide) {  // there oneDNN's runs at half its speed
    KernelGradient{whole.n,
                   whole.h,
                   whole.w,
                   whole.ci,
                   whole.ci,
                   k[0],
                   k[1],
                   padding,
                   whole.co,
                   whole.co,
                   static_cast<const float*>(x.untyped_data()),
                   static_cast<const float*>(dy.untyped_data()),
                   dk->typed_data(),
                   db->typed_data(),
                   whole.co}
        .run(pool);
    return ffi::Error::Success();
  }
  const int64_t threads = pool.num_threads(), plain_size = dk->element_count();
  Shape part = whole;  // one piece a thread: the sums of each are added up at the end
  std::vector<Piece> pieces;
  int64_t most = 0;
  for (int64_t i = 0, count = std::min(whole.n, threads); i < count; ++i) {
    OneThread scope;
    const int64_t from = whole.n * i / count;
    part.n = whole.n * (i + 1) / count - from;
    pieces.push_back({from, part.n, &convolution(part, kBackwardKernel)});
    most = std::max<int64_t>(most, pieces.back().convolution->kernel.get_size() / sizeof(float));
  }
  const int64_t stride = (most + plain_size + whole.co + 15) / 16 * 16;
  Scratch parts(pieces.size() * stride);  // of each piece: as oneDNN has it, plain, bias
  parallel_for(pool, pieces.size(), [&](int64_t i) {
    const auto& [image, images, c] = pieces[i];
    void* from = at(x.untyped_data(), image * whole.h * whole.w * whole.ci, whole.type);
    void* to = at(dy.untyped_data(), image * whole.out_h() * whole.out_w() * whole.co, whole.type);
    float *sums_here = parts.get() + i * stride, *plain = sums_here + most;
    memory sums(c->kernel, engine(), sums_here), ordered(hwio(whole, Type::f32), engine(), plain);
    execute(*c, {{DNNL_ARG_SRC, memory(c->input, engine(), from)},
                 {DNNL_ARG_DIFF_DST, memory(c->output, engine(), to)},
                 {DNNL_ARG_DIFF_WEIGHTS, sums},
                 {DNNL_ARG_DIFF_BIAS, memory(c->bias, engine(), plain + plain_size)}});
    dnnl::reorder(sums, ordered).execute(stream(), sums, ordered);
    stream().wait();
  });
  auto add = [&](float* out, int64_t size, int64_t offset) {
    const int64_t blocks = std::clamp<int64_t>(size / 16384, 1, pool.num_threads());
    parallel_for(pool, blocks, [&](int64_t block) {
      for (int64_t j = size * block / blocks; j < size * (block + 1) / blocks; ++j) {
        float sum = 0;
        for (size_t i = 0; i < pieces.size(); ++i)
          sum += parts.get()[i * stride + most + offset + j];
        out[j] = sum;
      }
    });
  };
  add(dk->typed_data(), plain_size, 0);
  add(db->typed_data(), whole.co, plain_size);
  return ffi::Error::Success();
} catch (const dnnl::error& error) {
  return ffi::Error::Internal(error.what());
}

}  // namespace

using Bind = ffi::Ffi;
#define ANY Arg<ffi::AnyBuffer>()
#define FLOATS Arg<F32>()
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_forward, ConvForward,
                              Bind::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .ANY.ANY.FLOATS.FLOATS.Arg<S32>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("padding")
                                  .Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_pack, ConvPack, Bind::Bind().FLOATS.Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_backward_input, ConvBackwardInput,
    Bind::Bind().Ctx<ffi::ThreadPool>().ANY.ANY.Ret<ffi::AnyBuffer>().Attr<int64_t>("padding"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_backward_kernel, ConvBackwardKernel,
    Bind::Bind().Ctx<ffi::ThreadPool>().ANY.ANY.Ret<F32>().Ret<F32>().Attr<int64_t>("padding"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    lstm_pack, LstmPack, Bind::Bind().Ctx<ffi::ThreadPool>().FLOATS.FLOATS.Ret<F32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_forward, LstmForward,
                              Bind::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .FLOATS.FLOATS.FLOATS.FLOATS.Arg<S32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_backward, LstmBackward,
                              Bind::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .FLOATS.FLOATS.FLOATS.FLOATS.FLOATS.FLOATS.FLOATS.Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>());

// Whether bfloat16 is multiplied faster than float32 here.
extern "C" bool supports_bfloat16() {
  const auto isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_fp16 ||
         isa == dnnl::cpu_isa::avx512_core_amx || isa == dnnl::cpu_isa::avx512_core_amx_fp16;
}

// Floats of a kernel as conv_pack lays it out.
extern "C" int64_t packed_size(int64_t size, int64_t ci, int64_t co) {
  FewConvolutions c{};
  c.ci = ci, c.size = size, c.co = co;
  return c.tiles() * c.depth() * FewConvolutions::kOut;
}
