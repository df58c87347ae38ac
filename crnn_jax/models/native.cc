// Convolutions and LSTMs for XLA on the CPU, called through XLA's foreign function interface.
//
// Convolutions are oneDNN's; the gradient by the kernel (where oneDNN has none that is fast) and
// the LSTM are written here. Work is cut into pieces that run on XLA's own threads, and oneDNN sees
// one thread in each: a second pool of threads would spin for work while XLA needs the cores.
// What a row of the batch gets depends neither on the other rows nor on the number of threads.

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
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->left == 0; });
}

// Memory of one call, aligned to pages.
template <typename T>
struct Array {
  explicit Array(size_t size)
      : data_(static_cast<T*>(std::aligned_alloc(4096, (size * sizeof(T) + 4095) / 4096 * 4096)),
              std::free) {}
  T* get() const { return data_.get(); }

 private:
  std::unique_ptr<T, void (*)(void*)> data_;
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
inline Vec fill(float x) { return Vec{} + x; }

// e^x to 2 units in the last place, for x in [-87, 87]; beyond, that of the nearer end.
inline Vec exponential(Vec x) {
  x = x > 87.0f ? fill(87.0f) : x;
  x = x < -87.0f ? fill(-87.0f) : x;
  const Vec shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const Vec n = shifted - 12582912.0f;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = fill(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
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
  static void tile(const float* x, int64_t x_row, const float* dy, int64_t rows, int64_t width, float* dk) {
    Vec acc[R][2];
    for (int r = 0; r < R; ++r) acc[r][0] = load(dk + r * kOut), acc[r][1] = load(dk + r * kOut + VL);
    for (; rows > 0; --rows, x += x_row) {
      const float* pixel = x;
      for (int64_t p = 0; p < width; ++p, pixel += kIn, dy += kOut) {
        const Vec left = load(dy), right = load(dy + VL);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) acc[r][0] += left * pixel[r], acc[r][1] += right * pixel[r];
      }
    }
    for (int r = 0; r < R; ++r) store(dk + r * kOut, acc[r][0]), store(dk + r * kOut + VL, acc[r][1]);
  }

  void run(ffi::ThreadPool& pool) const {
    const int64_t oh = h + 2 * pad - kh + 1, ow = w + 2 * pad - kw + 1;
    const int64_t ph = h + 2 * pad, pw = w + 2 * pad;
    const int64_t tiles = (ci + kIn - 1) / kIn, panels = (co + kOut - 1) / kOut;
    // x as [n, tile, ph, pw, kIn], zeros around it and behind the last channel.
    const int64_t plane = ph * pw * kIn;
    Array<float> packed(n * tiles * plane);
    parallel_for(pool, n, [&](int64_t i) {
      float* to = packed.get() + i * tiles * plane;
      if (pad || ci % kIn) std::memset(to, 0, tiles * plane * sizeof(float));
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t count = std::min<int64_t>(kIn, ci - t * kIn);
        for (int64_t r = 0; r < h; ++r) {
          const float* from = x + (i * h + r) * w * x_stride + t * kIn;
          float* row = to + t * plane + ((r + pad) * pw + pad) * kIn;
          if (count == kIn)
            for (int64_t c = 0; c < w; ++c) std::memcpy(row + c * kIn, from + c * x_stride, kIn * 4);
          else
            for (int64_t c = 0; c < w; ++c) std::copy_n(from + c * x_stride, count, row + c * kIn);
        }
      }
    });
    const int64_t rows = std::clamp<int64_t>(256 / ow, 1, oh);  // of dy at a time, for the first cache
    parallel_for(pool, panels, [&](int64_t p) {
      const int64_t count = std::min<int64_t>(kOut, co - p * kOut);
      Array<float> panel(oh * ow * kOut), sums(kh * kw * tiles * kIn * kOut);
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
              switch (std::min<int64_t>(kIn, ci - t * kIn)) {
                case 6: tile<6>(in, pw * kIn, d, here, ow, out); break;
                case 5: tile<5>(in, pw * kIn, d, here, ow, out); break;
                case 4: tile<4>(in, pw * kIn, d, here, ow, out); break;
                case 3: tile<3>(in, pw * kIn, d, here, ow, out); break;
                case 2: tile<2>(in, pw * kIn, d, here, ow, out); break;
                case 1: tile<1>(in, pw * kIn, d, here, ow, out); break;
              }
            }
        }
      }
      for (int64_t k = 0; k < kh * kw; ++k)
        for (int64_t a = 0; a < ci; ++a)
          std::copy_n(sums.get() + (k * tiles * kIn + a) * kOut, count, dk + (k * ci + a) * dk_row + p * kOut);
      float both[kOut];
      store(both, bias[0]), store(both + VL, bias[1]);
      std::copy_n(both, count, db + p * kOut);
    });
  }
};

// ---------------------------------------------------------------------------------- LSTM

// Both directions of an LSTM over z [t, b, 8 h]: gates i, f, g, o of the forward, then of the
// backward direction. Frames at or behind a row's length hold nothing: output, cell and gates are 0,
// so that the backward direction reaches the real end with a fresh state.
struct Lstm {
  int64_t t, b, h, chunks;

  Lstm(F32::Dimensions z, const ffi::ThreadPool& pool)
      : t(z[0]), b(z[1]), h(z[2] / 8), chunks(std::clamp<int64_t>(pool.num_threads() / 2, 1, b)) {}

  int64_t tiles() const { return (h + VL - 1) / VL; }
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

ffi::Error LstmForward(ffi::ThreadPool pool, F32 z, F32 recurrent, F32 bias, S32 lengths,
                       ffi::Result<F32> hs, ffi::Result<F32> cs, ffi::Result<F32> gates) {
  const Lstm l(z.dimensions(), pool);
  const int64_t h = l.h, tiles = h / VL;
  const bool save = gates->element_count() > 0;
  Array<float> panels(2 * tiles * h * 4 * VL);  // [direction, tile, h, gate, VL]
  parallel_for(pool, 2 * tiles, [&](int64_t i) {
    const float* from = recurrent.typed_data() + i / tiles * h * 4 * h + i % tiles * VL;
    float* to = panels.get() + i * h * 4 * VL;
    for (int64_t k = 0; k < h; ++k)
      for (int64_t g = 0; g < 4; ++g) store(to + (k * 4 + g) * VL, load(from + (k * 4 + g) * h));
  });
  l.for_each(pool, [&](int64_t d, int64_t first, int64_t rows) {
    Array<float> cells(rows * h);
    std::memset(cells.get(), 0, rows * h * sizeof(float));
    for (int64_t step = 0; step < l.t; ++step) {
      const int64_t now = l.frame(step, d) * l.b + first, before = l.frame(step - 1, d) * l.b + first;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const float* panel = panels.get() + (d * tiles + tile) * h * 4 * VL;
        by_rows(rows, [&](auto block, int64_t row) {
          constexpr int M = decltype(block)::value;
          Vec acc[M][4];
          for (int m = 0; m < M; ++m)
            for (int g = 0; g < 4; ++g) {
              const int64_t column = (d * 4 + g) * h + tile * VL;
              acc[m][g] = load(z.typed_data() + (now + row + m) * 8 * h + column) +
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
              i = sigmoid(acc[m][0]), f = sigmoid(acc[m][1]), g = tanh(acc[m][2]), o = sigmoid(acc[m][3]);
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

ffi::Error LstmBackward(ffi::ThreadPool pool, F32 d_hs, F32 hs, F32 cs, F32 gates, F32 recurrent,
                        ffi::Result<F32> dz, ffi::Result<F32> d_recurrent, ffi::Result<F32> d_bias) {
  const Lstm l(gates.dimensions(), pool);
  const int64_t h = l.h, groups = (h + 4 * VL - 1) / (4 * VL);
  Array<float> panels(2 * groups * 4 * h * 4 * VL);  // the recurrent kernel turned: [direction, group, 4 h, 4 VL]
  parallel_for(pool, 2 * groups, [&](int64_t i) {
    const float* from = recurrent.typed_data() + i / groups * h * 4 * h;
    float* to = panels.get() + i * 4 * h * 4 * VL;
    for (int64_t j = 0; j < 4 * VL; ++j) {
      const int64_t unit = i % groups * 4 * VL + j;
      for (int64_t k = 0; k < 4 * h; ++k) to[k * 4 * VL + j] = unit < h ? from[unit * 4 * h + k] : 0.0f;
    }
  });
  l.for_each(pool, [&](int64_t d, int64_t first, int64_t rows) {
    Array<float> d_cells(rows * h), d_outs(rows * h);  // what comes back through the state
    std::memset(d_cells.get(), 0, rows * h * sizeof(float));
    std::memset(d_outs.get(), 0, rows * h * sizeof(float));
    for (int64_t step = l.t - 1; step >= 0; --step) {
      const int64_t now = l.frame(step, d) * l.b + first, before = l.frame(step - 1, d) * l.b + first;
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t u = 0; u < h; u += VL) {
          const int64_t at = (now + row) * 2 * h + d * h + u;
          const float* gate = gates.typed_data() + (now + row) * 8 * h + d * 4 * h + u;
          const Vec i = load(gate), f = load(gate + h), g = load(gate + 2 * h), o = load(gate + 3 * h);
          const Vec tanh_c = tanh(load(cs.typed_data() + at));
          const Vec c_before = step ? load(cs.typed_data() + (before + row) * 2 * h + d * h + u) : Vec{};
          const Vec d_h = load(d_outs.get() + row * h + u) + load(d_hs.typed_data() + at);
          const Vec d_c = load(d_cells.get() + row * h + u) + d_h * o * (1.0f - tanh_c * tanh_c);
          float* to = dz->typed_data() + (now + row) * 8 * h + d * 4 * h + u;
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
          multiply<M>(dz->typed_data() + (now + row) * 8 * h + d * 4 * h, 8 * h,
                      panels.get() + (d * groups + group) * 4 * h * 4 * VL, 4 * h, acc);
          for (int m = 0; m < M; ++m)
            for (int j = 0; j < 4 && (group * 4 + j) * VL < h; ++j)
              store(d_outs.get() + (row + m) * h + (group * 4 + j) * VL, acc[m][j]);
        });
    }
  });
  for (int64_t d = 0; d < 2; ++d) {
    // Frame by frame output of one step meets the gates of the next.
    const int64_t later = d ? 0 : l.b, earlier = d ? l.b : 0;
    KernelGradient{1, l.t - 1, l.b, h, 2 * h, 1, 1, 0, 4 * h, 8 * h,
                   hs.typed_data() + earlier * 2 * h + d * h, dz->typed_data() + later * 8 * h + d * 4 * h,
                   d_recurrent->typed_data() + d * h * 4 * h, d_bias->typed_data() + d * 4 * h, 4 * h}
        .run(pool);
    // The first step has no output before it; its gates count for the bias.
    const float* rest = dz->typed_data() + l.frame(0, d) * l.b * 8 * h + d * 4 * h;
    for (int64_t row = 0; row < l.b; ++row)
      for (int64_t k = 0; k < 4 * h; ++k) d_bias->typed_data()[d * 4 * h + k] += rest[row * 8 * h + k];
  }
  return ffi::Error::Success();
}

// ---------------------------------------------------------------------------------- convolutions

enum Kind { kForward, kBackwardInput, kBackwardKernel };

struct Shape {
  int64_t n, h, w, ci, kh, kw, co, pad_top, pad_bottom, pad_w, relu;
  memory::data_type type;
  int64_t out_h() const { return h + pad_top + pad_bottom - kh + 1; }
  int64_t out_w() const { return w + 2 * pad_w - kw + 1; }
  std::array<int64_t, 13> key(int kind) const {
    return {n, h, w, ci, kh, kw, co, pad_top, pad_bottom, pad_w, relu, int64_t(type), kind};
  }
};

struct Convolution {
  dnnl::primitive primitive;
  memory::desc input, kernel, output, scratchpad;
};

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

dnnl::stream& stream() {
  static thread_local dnnl::stream s(engine());
  return s;
}

// Called where OpenMP is set to one thread: a primitive keeps the number that it was made for.
const Convolution& convolution(const Shape& s, Kind kind) {
  static std::mutex mutex;
  static std::map<std::array<int64_t, 13>, Convolution> made;
  std::lock_guard<std::mutex> lock(mutex);
  auto [found, is_new] = made.try_emplace(s.key(kind));
  Convolution& c = found->second;
  if (!is_new) return c;
  using tag = memory::format_tag;
  const auto f32 = memory::data_type::f32;
  memory::desc x({s.n, s.ci, s.h, s.w}, s.type, tag::nhwc);
  memory::desc y({s.n, s.co, s.out_h(), s.out_w()}, s.type, tag::nhwc);
  memory::dims kernel_dims{s.co, s.ci, s.kh, s.kw};
  memory::desc k(kernel_dims, s.type, tag::any), b({s.co}, f32, tag::x);
  memory::dims stride{1, 1}, before{s.pad_top, s.pad_w}, after{s.pad_bottom, s.pad_w};
  const auto algorithm = dnnl::algorithm::convolution_direct;
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::primitive_attr forward_attr = attr;
  if (s.relu) {
    dnnl::post_ops ops;
    ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
    forward_attr.set_post_ops(ops);
  }
  dnnl::convolution_forward::primitive_desc forward(
      engine(), dnnl::prop_kind::forward_training, algorithm, x, k, b, y, stride, before, after,
      kind == kForward ? forward_attr : attr);
  if (kind == kForward) {
    c = {dnnl::convolution_forward(forward), forward.src_desc(), forward.weights_desc(),
         forward.dst_desc(), forward.scratchpad_desc()};
  } else if (kind == kBackwardInput) {
    dnnl::convolution_backward_data::primitive_desc d(engine(), algorithm, x, k, y, stride, before,
                                                      after, forward, attr);
    c = {dnnl::convolution_backward_data(d), d.diff_src_desc(), d.weights_desc(),
         d.diff_dst_desc(), d.scratchpad_desc()};
  } else {
    memory::desc dk(kernel_dims, f32, tag::any);  // summed in float32 whatever the activations are
    dnnl::convolution_backward_weights::primitive_desc d(
        engine(), algorithm, x, dk, b, y, stride, before, after, forward, attr);
    c = {dnnl::convolution_backward_weights(d), d.src_desc(), d.diff_weights_desc(),
         d.diff_dst_desc(), d.scratchpad_desc()};
  }
  if (std::getenv("NATIVE_DEBUG")) {

    const char* name;
    c.primitive.get_primitive_desc();
    dnnl_primitive_desc_query(c.primitive.get_primitive_desc(), dnnl_query_impl_info_str, 0, &name);
    fprintf(stderr, "kind %d n%ld h%ld w%ld ci%ld co%ld: %s\n", kind, s.n, s.h, s.w, s.ci, s.co, name);
  }
  return c;
}

// A piece of a batch: some pictures, or some rows of one where there are fewer pictures than threads.
struct Piece {
  int64_t image, images, row, rows;  // rows of the output
};

std::vector<Piece> pieces_of(int64_t n, int64_t out_h, int64_t threads) {
  std::vector<Piece> pieces;
  if (n >= threads) {
    const int64_t count = std::min(n, threads);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t from = n * i / count, to = n * (i + 1) / count;
      pieces.push_back({from, to - from, 0, out_h});
    }
  } else {
    const int64_t parts = std::min((threads + n - 1) / n, out_h);
    for (int64_t image = 0; image < n; ++image)
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t from = out_h * i / parts, to = out_h * (i + 1) / parts;
        pieces.push_back({image, 1, from, to - from});
      }
  }
  return pieces;
}

memory::desc hwio(const Shape& s, memory::data_type type) {
  return memory::desc({s.co, s.ci, s.kh, s.kw}, type, memory::format_tag::hwio);
}

void execute(const Convolution& c, std::unordered_map<int, memory> args) {
  Array<char> scratchpad(c.scratchpad.get_size());
  args.insert({DNNL_ARG_SCRATCHPAD, memory(c.scratchpad, engine(), scratchpad.get())});
  c.primitive.execute(stream(), args);
  stream().wait();
}

// The kernel in the layout that the primitive wants, in this call's own memory.
struct Packed {
  std::unique_ptr<char, void (*)(void*)> owned{nullptr, std::free};
  void* data;
};

Packed pack(const Shape& s, const memory::desc& wanted, void* kernel) {
  Packed packed{{nullptr, std::free}, kernel};
  const memory::desc given = hwio(s, s.type);
  if (wanted == given) return packed;
  packed.owned.reset(static_cast<char*>(std::aligned_alloc(4096, (wanted.get_size() + 4095) / 4096 * 4096)));
  packed.data = packed.owned.get();
  memory from(given, engine(), kernel), to(wanted, engine(), packed.data);
  dnnl::reorder(from, to).execute(stream(), from, to);
  stream().wait();
  return packed;
}

char* at(void* data, int64_t elements, memory::data_type type) {
  return static_cast<char*>(data) + elements * memory::data_type_size(type);
}

Shape shape_of(ffi::AnyBuffer::Dimensions x, ffi::AnyBuffer::Dimensions k, int64_t pad, bool relu,
               ffi::DataType type) {
  const auto t = type == ffi::DataType::BF16 ? memory::data_type::bf16 : memory::data_type::f32;
  return {x[0], x[1], x[2], x[3], k[0], k[1], k[3], pad, pad, pad, relu, t};
}


// y = conv(x, kernel) + bias; with `relu` also max(y, 0), and 0 in columns at or right of width.
ffi::Error ConvForward(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer kernel,
                       ffi::Buffer<ffi::F32> bias, ffi::Buffer<ffi::S32> width,
                       ffi::Result<ffi::AnyBuffer> y, int64_t pad, bool relu) {
  const Shape whole = shape_of(x.dimensions(), kernel.dimensions(), pad, relu, x.element_type());
  const int64_t out_h = whole.out_h(), out_w = whole.out_w();
  const auto pieces = pieces_of(whole.n, out_h, pool.num_threads());
  auto shape = [&](const Piece& p) {
    Shape s = whole;
    s.n = p.images;
    const int64_t first = p.row - pad, last = p.row + p.rows - 1 - pad + whole.kh;  // input rows
    s.pad_top = std::max<int64_t>(0, -first);
    s.pad_bottom = std::max<int64_t>(0, last - whole.h);
    s.h = std::min(last, whole.h) - std::max<int64_t>(first, 0);
    return s;
  };
  OneThread one;
  const memory::desc wanted = convolution(shape(pieces[0]), kForward).kernel;
  Packed packed = pack(whole, wanted, kernel.untyped_data());
  parallel_for(pool, pieces.size(), [&](int64_t i) {
    const Piece& p = pieces[i];
    const Shape s = shape(p);
    const Convolution& c = convolution(s, kForward);
    void* packed_data = packed.data;
    Packed own{{nullptr, std::free}, nullptr};
    if (c.kernel != wanted) {
      own = pack(whole, c.kernel, kernel.untyped_data());
      packed_data = own.data;
    }
    const int64_t row = std::max<int64_t>(p.row - pad, 0);
    char* from = at(x.untyped_data(), (p.image * whole.h + row) * whole.w * whole.ci, s.type);
    char* to = at(y->untyped_data(), (p.image * out_h + p.row) * out_w * whole.co, s.type);
    execute(c, {{DNNL_ARG_SRC, memory(c.input, engine(), from)},
                {DNNL_ARG_WEIGHTS, memory(c.kernel, engine(), packed_data)},
                {DNNL_ARG_BIAS, memory({{s.co}, memory::data_type::f32, memory::format_tag::x},
                                       engine(), bias.untyped_data())},
                {DNNL_ARG_DST, memory(c.output, engine(), to)}});
    if (!relu) return;
    const size_t pixel = whole.co * memory::data_type_size(s.type);
    for (int64_t image = 0; image < p.images; ++image) {
      const int64_t real = std::clamp<int64_t>(width.typed_data()[p.image + image], 0, out_w);
      for (int64_t r = 0; real < out_w && r < p.rows; ++r)
        std::memset(to + ((image * p.rows + r) * out_w + real) * pixel, 0, (out_w - real) * pixel);
    }
  });
  return ffi::Error::Success();
}

ffi::Error ConvBackwardInput(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer kernel,
                             ffi::Result<ffi::AnyBuffer> dx, int64_t pad) {
  const Shape whole = shape_of(dx->dimensions(), kernel.dimensions(), pad, false, dy.element_type());
  const auto pieces = pieces_of(whole.n, 1, pool.num_threads());
  OneThread one;
  Shape first = whole;
  first.n = pieces[0].images;
  const memory::desc wanted = convolution(first, kBackwardInput).kernel;
  Packed packed = pack(whole, wanted, kernel.untyped_data());
  parallel_for(pool, pieces.size(), [&](int64_t i) {
    Shape s = whole;
    s.n = pieces[i].images;
    const Convolution& c = convolution(s, kBackwardInput);
    const int64_t image = pieces[i].image;
    void* from = at(dy.untyped_data(), image * s.out_h() * s.out_w() * s.co, s.type);
    void* to = at(dx->untyped_data(), image * s.h * s.w * s.ci, s.type);
    execute(c, {{DNNL_ARG_DIFF_DST, memory(c.output, engine(), from)},
                {DNNL_ARG_WEIGHTS, memory(c.kernel, engine(), packed.data)},
                {DNNL_ARG_DIFF_SRC, memory(c.input, engine(), to)}});
  });
  return ffi::Error::Success();
}

ffi::Error ConvBackwardKernel(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                              ffi::Result<ffi::Buffer<ffi::F32>> dk,
                              ffi::Result<ffi::Buffer<ffi::F32>> db, int64_t pad) {
  const Shape whole = shape_of(x.dimensions(), dk->dimensions(), pad, false, x.element_type());
  if (VL < 16 && whole.type == memory::data_type::f32 && whole.ci > 1) {
    KernelGradient{whole.n, whole.h, whole.w, whole.ci, whole.ci, whole.kh, whole.kw, pad, whole.co, whole.co,
      (const float*)x.untyped_data(), (const float*)dy.untyped_data(), dk->typed_data(), db->typed_data(), whole.co}.run(pool);
    return ffi::Error::Success();
  }
  const auto pieces = pieces_of(whole.n, 1, pool.num_threads());
  const int64_t count = pieces.size();
  OneThread one;
  Shape first = whole;
  first.n = pieces[0].images;
  const memory::desc layout = convolution(first, kBackwardKernel).kernel;
  const int64_t size = layout.get_size() / sizeof(float);
  const int64_t stride = (size + whole.co + 1023) / 1024 * 1024;
  std::unique_ptr<float, void (*)(void*)> parts(
      static_cast<float*>(std::aligned_alloc(4096, count * stride * sizeof(float))), std::free);
  parallel_for(pool, count, [&](int64_t i) {
    Shape s = whole;
    s.n = pieces[i].images;
    const Convolution& c = convolution(s, kBackwardKernel);
    const int64_t image = pieces[i].image;
    void* from = at(x.untyped_data(), image * s.h * s.w * s.ci, s.type);
    void* to = at(dy.untyped_data(), image * s.out_h() * s.out_w() * s.co, s.type);
    float* part = parts.get() + i * stride;
    execute(c, {{DNNL_ARG_SRC, memory(c.input, engine(), from)},
                {DNNL_ARG_DIFF_DST, memory(c.output, engine(), to)},
                {DNNL_ARG_DIFF_WEIGHTS, memory(c.kernel, engine(), part)},
                {DNNL_ARG_DIFF_BIAS, memory({{s.co}, memory::data_type::f32, memory::format_tag::x},
                                            engine(), part + size)}});
  });
  float* sum = parts.get();
  const int64_t blocks = std::max<int64_t>(1, std::min<int64_t>(pool.num_threads(), size / 16384));
  parallel_for(pool, blocks, [&](int64_t b) {
    const int64_t from = (size + whole.co) * b / blocks, to = (size + whole.co) * (b + 1) / blocks;
    for (int64_t i = 1; i < count; ++i)
      for (int64_t j = from; j < to; ++j) sum[j] += sum[i * stride + j];
  });
  memory packed(layout, engine(), sum), plain(hwio(whole, memory::data_type::f32), engine(), dk->untyped_data());
  dnnl::reorder(packed, plain).execute(stream(), packed, plain);
  stream().wait();
  std::memcpy(db->untyped_data(), sum + size, whole.co * sizeof(float));
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_forward, ConvForward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("padding")
                                  .Attr<bool>("relu"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_backward_input, ConvBackwardInput,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("padding"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_backward_kernel, ConvBackwardKernel,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("padding"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_forward, LstmForward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<S32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_backward, LstmBackward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Arg<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>()
                                  .Ret<F32>());

// Whether bfloat16 is multiplied faster than float32 here.
extern "C" bool supports_bfloat16() {
  const auto isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_fp16 ||
         isa == dnnl::cpu_isa::avx512_core_amx || isa == dnnl::cpu_isa::avx512_core_amx_fp16;
}
