// Convolutions, batch norm and LSTMs for XLA on the CPU, called through XLA's foreign function
// interface.
//
// Convolutions are oneDNN's. Written here are those of few pictures or few channels, the gradient
// by the kernel where oneDNN has none that is fast, pools, batch norm and the LSTM. Work is cut
// into pieces that run on XLA's own threads, and oneDNN sees one thread in each: a second pool of
// threads would spin for work while XLA needs the cores. What a picture gets depends, but for
// rounding, neither on its neighbours nor on the number of threads.

#include <omp.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

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
      buffer_.data.reset(allocate(size * sizeof(float)));
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
  static float* allocate(size_t bytes) {
    const size_t page = bytes < kHugePage ? 64 : kHugePage,
                 whole = (bytes + page - 1) / page * page;
    void* data = std::aligned_alloc(page, whole);
#ifdef MADV_HUGEPAGE
    if (page == kHugePage) madvise(data, whole, MADV_HUGEPAGE);  // a wish: it may be refused
#endif
    return static_cast<float*>(data);
  }
  static constexpr size_t kHugePage = 1 << 21;
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

// The same of bfloat16, which rounds to the nearest even.
struct BFloat16 {
  uint16_t bits;
};
typedef uint16_t HalfVec __attribute__((vector_size(VL * 2), aligned(2), may_alias));
typedef uint32_t BitVec __attribute__((vector_size(VL * 4)));

inline Vec load(const BFloat16* p) {
  return (Vec)(__builtin_convertvector(*reinterpret_cast<const HalfVec*>(p), BitVec) << 16);
}
inline void store(BFloat16* p, Vec v) {
  const BitVec bits = (BitVec)v, rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const BitVec kept = v == v ? rounded : bits | 0x400000;  // NaN stays NaN
  *reinterpret_cast<HalfVec*>(p) = __builtin_convertvector(kept >> 16, HalfVec);
}

// The first `count` of a vector, where fewer are left.
template <typename T>
inline Vec load(const T* p, int64_t count) {
  if (count >= VL) return load(p);
  T part[VL] = {};
  std::copy_n(p, count, part);
  return load(part);
}
template <typename T>
inline void store(T* p, Vec v, int64_t count) {
  if (count >= VL) return store(p, v);
  T part[VL];
  store(part, v);
  std::copy_n(part, count, p);
}

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

// ---------------------------------------------------------------------------------- passes

using Dims = ffi::AnyBuffer::Dimensions;
using Type = memory::data_type;

Type type_of(const ffi::AnyBuffer& x) {
  return x.element_type() == ffi::DataType::BF16 ? Type::bf16 : Type::f32;
}

// Calls f with a null pointer to the element's type.
template <typename F>
void with_type(Type type, F f) {
  if (type == Type::bf16)
    f(static_cast<BFloat16*>(nullptr));
  else
    f(static_cast<float*>(nullptr));
}

inline Vec larger(Vec a, Vec b) { return (a >= b) | (a != a) ? a : b; }  // NaN, if one is

// A max pool of 2 x 2 after a ReLU: vertical stride 2, horizontal stride 1 or 2, columns of zeros
// on the left. Stride 0: no pool.
struct Pool {
  int64_t stride, left;

  // y [h, w] pixels of y_pixel values, of which `channels` count -> out [h / 2, out_w].
  template <typename Y, typename T>
  void forward(const Y* y, int64_t h, int64_t w, int64_t y_pixel, int64_t channels, T* out,
               int64_t out_w, int64_t out_pixel) const {
    for (int64_t row = 0; row + 1 < h; row += 2)
      for (int64_t j = 0; j < out_w; ++j) {
        const int64_t first = j * stride - left;
        const Y* top = y + (row * w + first) * y_pixel;
        T* to = out + (row / 2 * out_w + j) * out_pixel;
        for (int64_t c = 0; c < channels; c += VL) {
          const int64_t count = channels - c;
          Vec best{};
          for (int64_t i = 0; i < 2; ++i)
            if (first + i >= 0 && first + i < w) {
              const Y* p = top + i * y_pixel + c;
              best = larger(best, larger(load(p, count), load(p + w * y_pixel, count)));
            }
          store(to + c, best, count);
        }
      }
  }

  // The gradient by what goes into ReLU and pool, of one picture; equals share it, as in XLA.
  template <typename T>
  void backward(const T* y, int64_t h, int64_t w, int64_t channels, const T* d_out, int64_t out_w,
                T* dy) const {
    const int64_t line = w * channels;
    for (int64_t row = 0; row + 1 < h; row += 2)
      for (int64_t col = 0; col < w; ++col)
        for (int64_t c = 0; c < channels; c += VL) {
          const int64_t count = channels - c;
          const T* top = y + row * line + col * channels + c;
          const Vec upper = load(top, count), lower = load(top + line, count);
          const Vec here = larger(upper, lower);
          Vec d{};
          for (int64_t i = 0; i < 2; ++i) {  // as the left and as the right of a window
            const int64_t at = col + left - i, beside = col + 1 - 2 * i;
            if (at < 0 || at % stride || at / stride >= out_w) continue;
            Vec other{};
            if (beside >= 0 && beside < w) {
              const T* p = top + (beside - col) * channels;
              other = larger(load(p, count), load(p + line, count));
            }
            d += share(here, other) *
                 load(d_out + (row / 2 * out_w + at / stride) * channels + c, count);
          }
          d = here > 0.0f ? d : Vec{};
          T* to = dy + row * line + col * channels + c;
          store(to, share(upper, lower) * d, count);
          store(to + line, share(lower, upper) * d, count);
        }
    if (h % 2) std::memset(static_cast<void*>(dy + (h - 1) * line), 0, line * sizeof(T));
  }

 private:
  static Vec share(Vec own, Vec other) {
    return own > other ? fill(1.0f) : own == other ? fill(0.5f) : Vec{};
  }
};

// The gradient by what goes into a convolution's ReLU, and its pool where it has one.
ffi::Error ReluPoolBackward(ffi::ThreadPool pool, ffi::AnyBuffer y, ffi::AnyBuffer d_out,
                            ffi::Result<ffi::AnyBuffer> dy, int64_t stride, int64_t left) {
  const Dims d = y.dimensions();
  const int64_t size = d[1] * d[2] * d[3], out_w = d_out.dimensions()[2];
  const int64_t out_size = d_out.element_count() / d[0];
  with_type(type_of(y), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    parallel_for(pool, d[0], [&](int64_t i) {
      const T* from = static_cast<const T*>(y.untyped_data()) + i * size;
      const T* d_from = static_cast<const T*>(d_out.untyped_data()) + i * out_size;
      T* to = static_cast<T*>(dy->untyped_data()) + i * size;
      if (stride)
        Pool{stride, left}.backward(from, d[1], d[2], d[3], d_from, out_w, to);
      else
        for (int64_t j = 0; j < size; j += VL)
          store(to + j, load(from + j, size - j) > 0.0f ? load(d_from + j, size - j) : Vec{},
                size - j);
    });
  });
  return ffi::Error::Success();
}

// Runs f(picture, pixel, channel, channels left) over the real columns of pictures [h, w, c].
template <typename F>
void for_real(const Dims& d, int64_t image, int64_t width, F f) {
  width = std::clamp<int64_t>(width, 0, d[2]);
  for (int64_t row = 0; row < d[1]; ++row)
    for (int64_t col = 0; col < width; ++col)
      for (int64_t c = 0; c < d[3]; c += VL) f(((image * d[1] + row) * d[2] + col) * d[3] + c, c);
}

// y = f(position, channel, channels left) in real columns, 0 in the others, for all pictures.
template <typename T, typename F>
void map_real(ffi::ThreadPool pool, const Dims& d, S32 width, T* y, F f) {
  const int64_t size = d[1] * d[2] * d[3];
  parallel_for(pool, d[0], [&](int64_t i) {
    std::memset(static_cast<void*>(y + i * size), 0, size * sizeof(T));
    for_real(d, i, width.typed_data()[i],
             [&](int64_t at, int64_t c) { store(y + at, f(at, c, d[3] - c), d[3] - c); });
  });
}

// Each channel's sum over real columns, and the sum of squared distances from its mean. Pictures
// are summed alone and then in order, whatever the number of threads.
ffi::Error NormMoments(ffi::ThreadPool pool, ffi::AnyBuffer x, S32 width, ffi::Result<F32> sum,
                       ffi::Result<F32> squares) {
  const Dims d = x.dimensions();
  const int64_t b = d[0], channels = d[3], row = (channels + VL - 1) / VL * VL;
  Scratch parts(b * 2 * row);
  std::memset(parts.get(), 0, b * 2 * row * sizeof(float));
  const auto real = [&](int64_t i) {
    return float(d[1] * std::clamp<int64_t>(width.typed_data()[i], 0, d[2]));
  };
  with_type(type_of(x), [&](auto* type) {
    const auto* data = static_cast<decltype(type)>(x.untyped_data());
    parallel_for(pool, b, [&](int64_t i) {
      float *s = parts.get() + i * 2 * row, *q = s + row;
      const float n = real(i);
      for_real(d, i, width.typed_data()[i], [&](int64_t at, int64_t c) {
        store(s + c, load(s + c) + load(data + at, channels - c));
      });
      for_real(d, i, width.typed_data()[i], [&](int64_t at, int64_t c) {
        const Vec off = load(data + at, channels - c) - load(s + c) / n;
        store(q + c, load(q + c) + off * off);
      });
    });
  });
  float count = 0;
  for (int64_t i = 0; i < b; ++i) count += real(i);
  for (int64_t c = 0; c < channels; c += VL) {
    Vec total{}, apart{};
    for (int64_t i = 0; i < b; ++i) total += load(parts.get() + i * 2 * row + c);
    for (int64_t i = 0; i < b; ++i)
      if (const float n = real(i); n > 0) {
        const float* s = parts.get() + i * 2 * row + c;
        const Vec off = load(s) / n - total / count;
        apart += load(s + row) + off * off * n;
      }
    store(sum->typed_data() + c, total, channels - c);
    store(squares->typed_data() + c, apart, channels - c);
  }
  return ffi::Error::Success();
}

// max(x * gain + shift, 0), and 0 in columns that are not real.
ffi::Error NormApply(ffi::ThreadPool pool, ffi::AnyBuffer x, F32 gain, F32 shift, S32 width,
                     ffi::Result<ffi::AnyBuffer> y) {
  const Dims d = x.dimensions();
  with_type(type_of(x), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* from = static_cast<const T*>(x.untyped_data());
    T* to = static_cast<T*>(y->untyped_data());
    map_real(pool, d, width, to, [&](int64_t at, int64_t c, int64_t left) {
      const Vec v = load(from + at, left) * load(gain.typed_data() + c, left) +
                    load(shift.typed_data() + c, left);
      return v < 0.0f ? Vec{} : v;
    });
  });
  return ffi::Error::Success();
}

// Where y > 0 in real columns, the sums of dy and of dy * (x - mean) of each channel.
ffi::Error NormSums(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer y, ffi::AnyBuffer dy,
                    F32 mean, S32 width, ffi::Result<F32> sum, ffi::Result<F32> product) {
  const Dims d = x.dimensions();
  const int64_t b = d[0], channels = d[3], row = (channels + VL - 1) / VL * VL;
  Scratch parts(b * 2 * row);
  std::memset(parts.get(), 0, b * 2 * row * sizeof(float));
  with_type(type_of(x), [&](auto* type) {
    using T = const std::remove_pointer_t<decltype(type)>;
    auto *xs = static_cast<T*>(x.untyped_data()), *ys = static_cast<T*>(y.untyped_data()),
         *dys = static_cast<T*>(dy.untyped_data());
    parallel_for(pool, b, [&](int64_t i) {
      float *s = parts.get() + i * 2 * row, *q = s + row;
      for_real(d, i, width.typed_data()[i], [&](int64_t at, int64_t c) {
        const int64_t left = channels - c;
        const Vec dz = load(ys + at, left) > 0.0f ? load(dys + at, left) : Vec{};
        store(s + c, load(s + c) + dz);
        store(q + c, load(q + c) + dz * (load(xs + at, left) - load(mean.typed_data() + c, left)));
      });
    });
  });
  for (int64_t c = 0; c < channels; c += VL) {
    Vec total{}, products{};
    for (int64_t i = 0; i < b; ++i) {
      total += load(parts.get() + i * 2 * row + c);
      products += load(parts.get() + i * 2 * row + row + c);
    }
    store(sum->typed_data() + c, total, channels - c);
    store(product->typed_data() + c, products, channels - c);
  }
  return ffi::Error::Success();
}

// dx = dz * gain + x * slope + offset in real columns, where dz is dy where y > 0; else 0.
ffi::Error NormGradient(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer y, ffi::AnyBuffer dy,
                        F32 gain, F32 slope, F32 offset, S32 width,
                        ffi::Result<ffi::AnyBuffer> dx) {
  const Dims d = x.dimensions();
  with_type(type_of(x), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *xs = static_cast<T*>(x.untyped_data()), *ys = static_cast<T*>(y.untyped_data()),
            *dys = static_cast<T*>(dy.untyped_data());
    T* to = static_cast<T*>(dx->untyped_data());
    map_real(pool, d, width, to, [&](int64_t at, int64_t c, int64_t left) -> Vec {
      const Vec dz = load(ys + at, left) > 0.0f ? load(dys + at, left) : Vec{};
      return dz * load(gain.typed_data() + c, left) +
             load(xs + at, left) * load(slope.typed_data() + c, left) +
             load(offset.typed_data() + c, left);
    });
  });
  return ffi::Error::Success();
}

// ------------------------------------------------------------------------------ own convolution

// y = max(conv(x, kernel) + shift, 0), and 0 in columns at or right of a picture's width: for fewer
// pictures than threads, cut by output channels, and for the few channels of a picture. Kernels
// come packed, or are on the way.
template <typename T>
struct OwnConvolution {
  int64_t n, h, w, ci, size, co, padding;
  const T* x;
  const float *kernel, *panels, *shift;
  const int32_t* width;  // null: neither max nor zeros
  T* y;                  // null: only what is pooled is wanted
  Pool pool;
  T* pooled;
  int64_t pooled_w;

  static constexpr int kPixels = VL == 16 ? 12 : 6, kOut = 2 * VL;  // a tile of y in registers
  static constexpr int64_t kDepth = 256;  // of weights that stay in the first cache
  int64_t tiles() const { return (co + kOut - 1) / kOut; }
  int64_t depth() const { return size * size * ci; }

  static bool fits(int64_t n, int64_t ci, int64_t threads) { return n < threads || ci <= 4; }

  // The kernel's part for one tile of output channels, [size, size, ci, kOut].
  void pack(int64_t tile, float* to) const {
    const int64_t first = tile * kOut, count = std::min<int64_t>(kOut, co - first);
    if (count < kOut) std::fill_n(to, depth() * kOut, 0.0f);
    for (int64_t k = 0; k < depth(); ++k)
      std::copy_n(kernel + k * co + first, count, to + k * kOut);
  }

  // sums[m] += in[row, m, k] * weights[row, k] over some rows of the kernel and a part of the
  // depth.
  template <int M>
  static void tile(const float* in, int64_t pixel, int64_t line, int64_t rows, int64_t depth,
                   const float* weights, float* sums) {
    Vec acc[M][2];
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m)
      acc[m][0] = load(sums + m * kOut), acc[m][1] = load(sums + m * kOut + VL);
    for (; rows > 0; --rows, in += line)
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

  template <int M = kPixels, typename... Rest>
  static void tile_of(int64_t pixels, Rest... rest) {
    if (pixels == M) return tile<M>(rest...);
    if constexpr (M > 1) tile_of<M - 1>(pixels, rest...);
  }

  void run(ffi::ThreadPool& threads) const {
    const int64_t pw = w + 2 * padding, ph = h + 2 * padding, oh = ph - size + 1,
                  ow = pw - size + 1;
    const int64_t columns = (ow + kPixels - 1) / kPixels;
    const int64_t groups = std::min<int64_t>(tiles(), (threads.num_threads() + n - 1) / n);
    parallel_for(threads, n * groups, [&](int64_t piece) {
      const int64_t image = piece / groups, group = piece % groups;
      Scratch padded(ph * pw * ci), own(panels ? 0 : depth() * kOut), sums(oh * ow * kOut);
      if (padding) std::fill_n(padded.get(), ph * pw * ci, 0.0f);
      for (int64_t r = 0; r < h; ++r)
        for (int64_t c = 0; c < w * ci; c += VL)
          store(padded.get() + ((r + padding) * pw + padding) * ci + c,
                load(x + (image * h + r) * w * ci + c, w * ci - c), w * ci - c);
      for (int64_t t = tiles() * group / groups; t < tiles() * (group + 1) / groups; ++t) {
        const float* weights = panels ? panels + t * depth() * kOut : own.get();
        if (!panels) pack(t, own.get());
        const int64_t count = std::min<int64_t>(kOut, co - t * kOut);
        float bias[kOut] = {};
        std::copy_n(shift + t * kOut, count, bias);
        for (int64_t q = 0; q < oh * ow; ++q) std::copy_n(bias, kOut, sums.get() + q * kOut);
        const int64_t rows = depth() <= kDepth ? size : 1;  // all of a small kernel at once
        for (int64_t i = 0; i < size; i += rows)
          for (int64_t k = 0; k < size * ci; k += kDepth)  // columns lie side by side
            for (int64_t r = 0; r < oh; ++r)
              for (int64_t c = 0; c < columns; ++c) {
                const int64_t first = ow * c / columns;
                tile_of(ow * (c + 1) / columns - first,
                        padded.get() + ((r + i) * pw + first) * ci + k, ci, pw * ci, rows,
                        std::min(kDepth, size * ci - k), weights + (i * size * ci + k) * kOut,
                        sums.get() + (r * ow + first) * kOut);
              }
        for (int64_t r = 0; r < oh; ++r)
          for (int64_t c = 0; c < ow; ++c) {
            float* at = sums.get() + (r * ow + c) * kOut;
            for (int v = 0; width && v < kOut; v += VL) {
              const Vec sum = load(at + v);
              store(at + v, c >= width[image] ? Vec{} : sum < 0.0f ? Vec{} : sum);  // NaN stays NaN
            }
            T* to = y + ((image * oh + r) * ow + c) * co + t * kOut;
            for (int64_t v = 0; y && v < count; v += VL) store(to + v, load(at + v), count - v);
          }
        if (pool.stride)
          pool.forward(sums.get(), oh, ow, kOut, count,
                       pooled + image * (oh / 2) * pooled_w * co + t * kOut, pooled_w, co);
      }
    });
  }
};

// ---------------------------------------------------------------------------------- oneDNN

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

dnnl::stream& stream() {
  static thread_local dnnl::stream s(engine());
  return s;
}

// Runs a primitive whose scratchpad is the user's, since several threads run one primitive.
void execute(const dnnl::primitive& primitive, const memory::desc& scratchpad,
             std::unordered_map<int, memory> arguments) {
  Scratch own(scratchpad.get_size() / sizeof(float) + 1);
  arguments.insert({DNNL_ARG_SCRATCHPAD, memory(scratchpad, engine(), own.get())});
  primitive.execute(stream(), arguments);
  stream().wait();
}

char* at(void* data, int64_t elements, Type type) {
  return static_cast<char*>(data) + elements * memory::data_type_size(type);
}

// A matrix where it lies.
struct Matrix {
  void* data;
  Type type;
  int64_t row, column;  // strides

  Matrix turned() const { return {data, type, column, row}; }
  memory from(int64_t first, int64_t rows, int64_t columns) const {
    return {
        {{rows, columns}, type, memory::dims{row, column}}, engine(), at(data, first * row, type)};
  }
};

// c [m, n] = a [m, k] b [k, n], rows shared out over the threads.
void matmul(ffi::ThreadPool& pool, int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, Matrix c) {
  const int64_t pieces = std::min<int64_t>(m, pool.num_threads());
  struct Part {
    memory a, b, c;
    dnnl::matmul::primitive_desc desc;
  };
  std::vector<Part> parts;  // made before the work is handed out: here an error can still be told
  for (int64_t i = 0; i < pieces; ++i) {
    OneThread scope;
    const int64_t first = m * i / pieces, rows = m * (i + 1) / pieces - first;
    Part part{a.from(first, rows, k), b.from(0, k, n), c.from(first, rows, n), {}};
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    part.desc = {engine(), part.a.get_desc(), part.b.get_desc(), part.c.get_desc(), attr};
    parts.push_back(std::move(part));
  }
  parallel_for(pool, pieces, [&](int64_t i) {
    const auto& [a, b, c, desc] = parts[i];
    execute(dnnl::matmul(desc), desc.scratchpad_desc(),  // oneDNN keeps what it made
            {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
  });
}

// Rounds to bfloat16.
void round(ffi::ThreadPool& pool, const float* from, int64_t size, BFloat16* to) {
  constexpr int64_t kBlock = 1 << 16;
  parallel_for(pool, (size + kBlock - 1) / kBlock, [&](int64_t i) {
    for (int64_t j = i * kBlock; j < std::min(size, (i + 1) * kBlock); j += VL)
      store(to + j, load(from + j, size - j), size - j);
  });
}

// ---------------------------------------------------------------------------------- LSTM

// Both directions of an LSTM over x [t, b, size]. Gates [t, b, 8 h] are i, f, g, o of the forward,
// then of the backward direction. Frames at or behind a row's length hold nothing: output, cell and
// gates are 0, so that the backward direction reaches the real end with a fresh state.
struct Lstm {
  int64_t t, b, size, h, chunks;

  Lstm(Dims x, int64_t gates, const ffi::ThreadPool& pool)
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

// x float32 or bfloat16, in which it is multiplied; all else is float32.
ffi::Error LstmForward(ffi::ThreadPool pool, ffi::AnyBuffer x, F32 kernel, F32 recurrent, F32 bias,
                       S32 lengths, ffi::Result<F32> hs, ffi::Result<F32> cs,
                       ffi::Result<F32> gates) try {
  const Lstm l(x.dimensions(), bias.element_count(), pool);
  const int64_t h = l.h, tiles = h / VL;
  const bool save = gates->element_count() > 0, packed = kernel.dimensions().size() == 1;
  Scratch z(l.t * l.b * 8 * h);  // the input's share of the gates
  if (type_of(x) == Type::bf16) {
    Scratch rounded(kernel.element_count() / 2 + 1);
    auto* low = reinterpret_cast<BFloat16*>(rounded.get());
    round(pool, kernel.typed_data(), kernel.element_count(), low);
    matmul(pool, l.t * l.b, 8 * h, l.size, {x.untyped_data(), Type::bf16, l.size, 1},
           {low, Type::bf16, 8 * h, 1}, {z.get(), Type::f32, 8 * h, 1});
  } else {
    Product{l.t * l.b,
            l.size,
            8 * h,
            static_cast<const float*>(x.untyped_data()),
            kernel.typed_data(),
            8 * h,
            1,
            z.get(),
            packed ? kernel.typed_data() : nullptr}
        .run(pool);
  }
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
} catch (const dnnl::error& error) {
  return ffi::Error::Internal(error.what());
}

ffi::Error LstmBackward(ffi::ThreadPool pool, F32 d_hs, ffi::AnyBuffer x, F32 kernel, F32 recurrent,
                        F32 hs, F32 cs, F32 gates, ffi::Result<ffi::AnyBuffer> dx,
                        ffi::Result<F32> d_kernel, ffi::Result<F32> d_recurrent,
                        ffi::Result<F32> d_bias) try {
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
  if (type_of(x) == Type::bf16) {
    const int64_t rows = l.t * l.b, later = l.b;
    Scratch low_dz(rows * 4 * h), low_hs(rows * h), low_kernel(kernel.element_count() / 2 + 1);
    const auto low = [&](const Scratch& s, int64_t row, int64_t offset = 0) {
      return Matrix{reinterpret_cast<BFloat16*>(s.get()) + offset, Type::bf16, row, 1};
    };
    round(pool, dz.get(), rows * 8 * h, static_cast<BFloat16*>(low(low_dz, 1).data));
    round(pool, hs.typed_data(), rows * 2 * h, static_cast<BFloat16*>(low(low_hs, 1).data));
    round(pool, kernel.typed_data(), kernel.element_count(),
          static_cast<BFloat16*>(low(low_kernel, 1).data));
    const Matrix inputs{x.untyped_data(), Type::bf16, l.size, 1};
    matmul(pool, rows, l.size, 8 * h, low(low_dz, 8 * h), low(low_kernel, 8 * h).turned(),
           {dx->untyped_data(), Type::bf16, l.size, 1});
    matmul(pool, l.size, 8 * h, rows, inputs.turned(), low(low_dz, 8 * h),
           {d_kernel->typed_data(), Type::f32, 8 * h, 1});
    for (int64_t d = 0; d < 2; ++d)  // the output of one step meets the gates of the next
      matmul(pool, h, 4 * h, rows - l.b,
             low(low_hs, 2 * h, (d ? later : 0) * 2 * h + d * h).turned(),
             low(low_dz, 8 * h, (d ? 0 : later) * 8 * h + d * 4 * h),
             {d_recurrent->typed_data() + d * h * 4 * h, Type::f32, 4 * h, 1});
    parallel_for(pool, 8 * h / VL, [&](int64_t i) {
      Vec sum{};
      for (int64_t row = 0; row < rows; ++row) sum += load(dz.get() + row * 8 * h + i * VL);
      store(d_bias->typed_data() + i * VL, sum);
    });
    return ffi::Error::Success();
  }
  const auto* inputs = static_cast<const float*>(x.untyped_data());
  Product{l.t * l.b,           8 * h, l.size, dz.get(),
          kernel.typed_data(), 1,     8 * h,  static_cast<float*>(dx->untyped_data())}
      .run(pool);
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
                 inputs,
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
} catch (const dnnl::error& error) {
  return ffi::Error::Internal(error.what());
}

// ---------------------------------------------------------------------------------- convolutions

enum Kind { kForward, kBackwardInput, kBackwardKernel };

struct Shape {
  int64_t n, h, w, ci, size, co, padding;  // a kernel of [size, size, ci, co]
  bool relu;
  Type type;
  int64_t out_h() const { return h + 2 * padding - size + 1; }
  int64_t out_w() const { return w + 2 * padding - size + 1; }
};

Shape shape_of(Dims x, int64_t size, int64_t co, int64_t padding, bool relu, Type type) {
  return {x[0], x[1], x[2], x[3], size, co, padding, relu, type};
}

struct Convolution {
  dnnl::primitive primitive;
  memory::desc input, kernel, output, bias, scratchpad;
};

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

constexpr int64_t kPieceBytes = 1 << 19;

// A piece of a batch: some pictures, and a primitive for them.
struct Piece {
  int64_t image, images;
  const Convolution* convolution;
};

// Made before the work is handed out: here an error can still be told.
std::vector<Piece> pieces_of(const Shape& whole, Kind kind, int64_t threads) {
  OneThread scope;
  // Few pictures, so that what comes out is still in the second cache when it is pooled; but more
  // where the kernel is the larger part of what is read.
  const int64_t kernel = whole.size * whole.size * whole.ci * whole.co;
  const int64_t image = whole.out_h() * whole.out_w() * whole.co;
  const int64_t size = memory::data_type_size(whole.type);
  const int64_t images =
      std::clamp<int64_t>(std::max(kPieceBytes, kernel * size) / (image * size), 1, 8);
  const int64_t most = threads * ((whole.n + images * threads - 1) / (images * threads));
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

// y = conv(x, kernel) + bias; with `relu` also max(y, 0), and 0 in columns at or right of width;
// with a stride of the pool also what is pooled. `panels` is empty, or what ConvPack made of the
// kernel. y is empty where only what is pooled is wanted.
ffi::Error ConvForward(ffi::ThreadPool threads, ffi::AnyBuffer x, F32 kernel, F32 panels, F32 bias,
                       S32 width, ffi::Result<ffi::AnyBuffer> y, ffi::Result<ffi::AnyBuffer> pooled,
                       int64_t padding, bool relu, int64_t stride, int64_t left) try {
  const Dims k = kernel.dimensions();
  const Shape whole = shape_of(x.dimensions(), k[0], k[3], padding, relu, type_of(x));
  const Pool pool{stride, left};
  const bool save = y->element_count() > 0;
  const int64_t pooled_w = stride ? pooled->dimensions()[2] : 0;
  if (OwnConvolution<float>::fits(whole.n, whole.ci, threads.num_threads())) {
    with_type(whole.type, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      OwnConvolution<T>{whole.n,
                        whole.h,
                        whole.w,
                        whole.ci,
                        k[0],
                        whole.co,
                        padding,
                        static_cast<const T*>(x.untyped_data()),
                        kernel.typed_data(),
                        panels.element_count() ? panels.typed_data() : nullptr,
                        bias.typed_data(),
                        relu ? width.typed_data() : nullptr,
                        save ? static_cast<T*>(y->untyped_data()) : nullptr,
                        pool,
                        static_cast<T*>(pooled->untyped_data()),
                        pooled_w}
          .run(threads);
    });
    return ffi::Error::Success();
  }
  const int64_t out_h = whole.out_h(), out_w = whole.out_w(), image_size = out_h * out_w * whole.co;
  const auto pieces = pieces_of(whole, kForward, threads.num_threads());
  const memory::desc given = hwio(whole, Type::f32), &wanted = pieces[0].convolution->kernel;
  Scratch own(0);
  void* weights = arranged(given, kernel.untyped_data(), wanted, own);
  parallel_for(threads, pieces.size(), [&](int64_t i) {
    const auto& [image, images, c] = pieces[i];
    Scratch other(0), unsaved(save ? 0 : images * image_size);
    void* kernel_here =
        c->kernel == wanted ? weights : arranged(given, kernel.untyped_data(), c->kernel, other);
    char* from = at(x.untyped_data(), image * whole.h * whole.w * whole.ci, whole.type);
    char* to = save ? at(y->untyped_data(), image * image_size, whole.type)
                    : reinterpret_cast<char*>(unsaved.get());
    execute(c->primitive, c->scratchpad,
            {{DNNL_ARG_SRC, memory(c->input, engine(), from)},
             {DNNL_ARG_WEIGHTS, memory(c->kernel, engine(), kernel_here)},
             {DNNL_ARG_BIAS, memory(c->bias, engine(), bias.untyped_data())},
             {DNNL_ARG_DST, memory(c->output, engine(), to)}});
    const size_t pixel = whole.co * memory::data_type_size(whole.type);
    for (int64_t row = 0; relu && row < images * out_h; ++row) {
      const int64_t real = std::clamp<int64_t>(width.typed_data()[image + row / out_h], 0, out_w);
      std::memset(to + (row * out_w + real) * pixel, 0, (out_w - real) * pixel);
    }
    const int64_t pooled_size = out_h / 2 * pooled_w * whole.co;
    if (stride)
      with_type(whole.type, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        for (int64_t j = 0; j < images; ++j)
          pool.forward(reinterpret_cast<const T*>(to) + j * image_size, out_h, out_w, whole.co,
                       whole.co,
                       static_cast<T*>(pooled->untyped_data()) + (image + j) * pooled_size,
                       pooled_w, whole.co);
      });
  });
  return ffi::Error::Success();
} catch (const dnnl::error& error) {
  return ffi::Error::Internal(error.what());
}

ffi::Error ConvPack(F32 kernel, ffi::Result<F32> panels) {
  const Dims k = kernel.dimensions();
  OwnConvolution<float> c{};
  c.ci = k[2], c.size = k[0], c.co = k[3], c.kernel = kernel.typed_data();
  for (int64_t t = 0; t < c.tiles(); ++t)
    c.pack(t, panels->typed_data() + t * c.depth() * OwnConvolution<float>::kOut);
  return ffi::Error::Success();
}

ffi::Error ConvBackwardInput(ffi::ThreadPool pool, ffi::AnyBuffer dy, F32 kernel,
                             ffi::Result<ffi::AnyBuffer> dx, int64_t padding) try {
  const Dims k = kernel.dimensions();
  const Shape whole = shape_of(dx->dimensions(), k[0], k[3], padding, false, type_of(dy));
  const auto pieces = pieces_of(whole, kBackwardInput, pool.num_threads());
  const memory::desc given = hwio(whole, Type::f32), &wanted = pieces[0].convolution->kernel;
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
    execute(c->primitive, c->scratchpad,
            {{DNNL_ARG_DIFF_DST, memory(c->output, engine(), from)},
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
  const Shape whole = shape_of(x.dimensions(), k[0], k[3], padding, false, type_of(x));
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
    execute(c->primitive, c->scratchpad,
            {{DNNL_ARG_SRC, memory(c->input, engine(), from)},
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
                                  .ANY.FLOATS.FLOATS.FLOATS.Arg<S32>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("padding")
                                  .Attr<bool>("relu")
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("left"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(relu_pool_backward, ReluPoolBackward,
                              Bind::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .ANY.ANY.Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("left"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    norm_moments, NormMoments,
    Bind::Bind().Ctx<ffi::ThreadPool>().ANY.Arg<S32>().Ret<F32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    norm_apply, NormApply,
    Bind::Bind().Ctx<ffi::ThreadPool>().ANY.FLOATS.FLOATS.Arg<S32>().Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    norm_sums, NormSums,
    Bind::Bind().Ctx<ffi::ThreadPool>().ANY.ANY.ANY.FLOATS.Arg<S32>().Ret<F32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(norm_gradient, NormGradient,
                              Bind::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .ANY.ANY.ANY.FLOATS.FLOATS.FLOATS.Arg<S32>()
                                  .Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_pack, ConvPack, Bind::Bind().FLOATS.Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_backward_input, ConvBackwardInput,
    Bind::Bind().Ctx<ffi::ThreadPool>().ANY.FLOATS.Ret<ffi::AnyBuffer>().Attr<int64_t>("padding"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    conv_backward_kernel, ConvBackwardKernel,
    Bind::Bind().Ctx<ffi::ThreadPool>().ANY.ANY.Ret<F32>().Ret<F32>().Attr<int64_t>("padding"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    lstm_pack, LstmPack, Bind::Bind().Ctx<ffi::ThreadPool>().FLOATS.FLOATS.Ret<F32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_forward, LstmForward,
                              Bind::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .ANY.FLOATS.FLOATS.FLOATS.Arg<S32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_backward, LstmBackward,
                              Bind::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .FLOATS.ANY.FLOATS.FLOATS.FLOATS.FLOATS.FLOATS
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>());

// Whether bfloat16 is multiplied here: 0 no, 1 but slower than float32, 2 faster. Slower it is on
// Intel's AVX-512 without AMX: crnn_residual trained 82 images/s, in float32 135.
extern "C" int32_t bfloat16_support() {
  const auto isa = dnnl::get_effective_cpu_isa();
  if (isa == dnnl::cpu_isa::avx512_core_amx || isa == dnnl::cpu_isa::avx512_core_amx_fp16) return 2;
  if (isa != dnnl::cpu_isa::avx512_core_bf16 && isa != dnnl::cpu_isa::avx512_core_fp16) return 0;
  return __builtin_cpu_is("amd") ? 2 : 1;
}

// Floats of a kernel as conv_pack lays it out.
extern "C" int64_t packed_size(int64_t size, int64_t ci, int64_t co) {
  OwnConvolution<float> c{};
  c.ci = ci, c.size = size, c.co = co;
  return c.tiles() * c.depth() * OwnConvolution<float>::kOut;
}
