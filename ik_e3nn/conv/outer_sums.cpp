// Sums over edges of outer products, and their gradients; see outer_sums.py for the equations and the shapes.
//
// For every receiver the sums over its edges stay in registers, for some channels at a time. All loops over the
// components m of a degree l have a length that the compiler knows.

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num() { return 0; }
#endif

typedef int64_t Int;

constexpr int LARGEST_DEGREE = 6;
enum Status { DONE, NO_SUCH_NODE, NO_MEMORY };
#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

// W numbers that the processor treats at once.
template <typename T, int W>
struct Lanes {
  typedef T type __attribute__((vector_size(W * sizeof(T))));
};
template <typename T, int W>
using V = typename Lanes<T, W>::type;

template <typename T, int W>
inline V<T, W> load(const T* from) {
  V<T, W> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <typename T, int W>
inline void store(T* to, V<T, W> v) {
  std::memcpy(to, &v, sizeof v);
}

template <typename T, int W>
inline T total(V<T, W> v) {
  T sum = 0;
  for (int i = 0; i < W; ++i) sum += v[i];
  return sum;
}

// Edges in blocks of w places with one receiver, and the sizes of all arrays.
template <typename T>
struct Problem {
  Int L, M, C, nodes, receivers, blocks, w;
  const T *Y, *R, *x;
  const Int *senders, *owners;
  int threads;

  Int H() const { return L * L; }

  // The first block of each run of blocks that have one receiver, and the number of blocks; empty if an index is wrong.
  std::vector<Int> runs() const {
    std::vector<Int> starts;
    for (Int e = 0; e < blocks * w; ++e)
      if (senders[e] < 0 || senders[e] >= nodes) return {};
    for (Int b = 0; b < blocks; ++b) {
      if (owners[b] < 0 || owners[b] >= receivers) return {};
      if (b == 0 || owners[b] != owners[b - 1]) starts.push_back(b);
    }
    starts.push_back(blocks);
    return starts;
  }

  bool sorted() const {
    for (Int b = 1; b < blocks; ++b)
      if (owners[b] < owners[b - 1]) return false;
    return true;
  }
};

// Z[lm, mu, i, c] += sum of Y[e, lm] R[e, l, c] x[mu, sender of e, c] over some edges e of receiver i, for all l.
template <typename T, int W, int l>
void add_sums(const Problem<T>& p, Int first, Int last, Int i, T* Z) {
  if (l >= p.L) return;
  for (Int mu = 0; mu < p.M; ++mu)
    for (Int c = 0; c < p.C; c += W) {
      V<T, W> sum[2 * l + 1] = {};
      for (Int e = first; e < last; ++e) {
        const V<T, W> Rx = load<T, W>(p.R + (e * p.L + l) * p.C + c) *
                           load<T, W>(p.x + (mu * p.nodes + p.senders[e]) * p.C + c);
        for (int m = 0; m < 2 * l + 1; ++m) sum[m] += p.Y[e * p.H() + l * l + m] * Rx;
      }
      for (int m = 0; m < 2 * l + 1; ++m) {
        T* z = Z + (((l * l + m) * p.M + mu) * p.receivers + i) * p.C + c;
        store<T, W>(z, load<T, W>(z) + sum[m]);
      }
    }
  if constexpr (l < LARGEST_DEGREE) add_sums<T, W, l + 1>(p, first, last, i, Z);
}

// Derivatives of the sum of g Z for one edge, with g[lm, mu, c] of its receiver: dY and dR are set, and dx is added to.
template <typename T, int W, int l>
void add_gradients(const Problem<T>& p, Int e, const T* g, T* dY, T* dR, T* dx) {
  if (l >= p.L) return;
  const T* Y = p.Y + e * p.H() + l * l;
  V<T, W> by_Y[2 * l + 1] = {};
  for (Int c = 0; c < p.C; c += W) {
    const Int edge = (e * p.L + l) * p.C + c;
    const V<T, W> R = load<T, W>(p.R + edge);
    V<T, W> by_R = {};
    for (Int mu = 0; mu < p.M; ++mu) {
      const Int node = (mu * p.nodes + p.senders[e]) * p.C + c;
      const V<T, W> x = load<T, W>(p.x + node), Rx = R * x;
      V<T, W> gY = {};
      for (int m = 0; m < 2 * l + 1; ++m) {
        const V<T, W> gm = load<T, W>(g + ((l * l + m) * p.M + mu) * p.C + c);
        gY += Y[m] * gm;
        by_Y[m] += gm * Rx;
      }
      by_R += gY * x;
      store<T, W>(dx + node, load<T, W>(dx + node) + gY * R);
    }
    store<T, W>(dR + edge, by_R);
  }
  for (int m = 0; m < 2 * l + 1; ++m) dY[e * p.H() + l * l + m] = total<T, W>(by_Y[m]);
  if constexpr (l < LARGEST_DEGREE) add_gradients<T, W, l + 1>(p, e, g, dY, dR, dx);
}

// Changes of Y, R and x.
template <typename T>
struct Directions {
  const T *y, *r, *u;
};

// Derivatives of Q(g, y, R, x) + Q(g, Y, r, x) + Q(g, Y, R, u) for one edge, as in `add_gradients`.
template <typename T, int W, int l>
void add_second(const Problem<T>& p, const Directions<T>& d, Int e, const T* g, T* dY, T* dR, T* dx) {
  if (l >= p.L) return;
  const T *Y = p.Y + e * p.H() + l * l, *y = d.y + e * p.H() + l * l;
  V<T, W> by_Y[2 * l + 1] = {};
  for (Int c = 0; c < p.C; c += W) {
    const Int edge = (e * p.L + l) * p.C + c;
    const V<T, W> R = load<T, W>(p.R + edge), r = load<T, W>(d.r + edge);
    V<T, W> by_R = {};
    for (Int mu = 0; mu < p.M; ++mu) {
      const Int node = (mu * p.nodes + p.senders[e]) * p.C + c;
      const V<T, W> x = load<T, W>(p.x + node), u = load<T, W>(d.u + node), P = r * x + R * u;
      V<T, W> gY = {}, gy = {};
      for (int m = 0; m < 2 * l + 1; ++m) {
        const V<T, W> gm = load<T, W>(g + ((l * l + m) * p.M + mu) * p.C + c);
        gY += Y[m] * gm;
        gy += y[m] * gm;
        by_Y[m] += gm * P;
      }
      by_R += gy * x + gY * u;
      store<T, W>(dx + node, load<T, W>(dx + node) + gy * R + gY * r);
    }
    store<T, W>(dR + edge, by_R);
  }
  for (int m = 0; m < 2 * l + 1; ++m) dY[e * p.H() + l * l + m] = total<T, W>(by_Y[m]);
  if constexpr (l < LARGEST_DEGREE) add_second<T, W, l + 1>(p, d, e, g, dY, dR, dx);
}

template <typename T, int W>
int sums(const Problem<T>& p, T* Z) {
  const std::vector<Int> starts = p.runs();
  const Int count = Int(starts.size()) - 1;
  if (count < 0) return NO_SUCH_NODE;
  [[maybe_unused]] const int threads = p.sorted() ? p.threads : 1;  // otherwise two runs may have one receiver
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (Int k = 0; k < count; ++k) add_sums<T, W, 0>(p, starts[k] * p.w, starts[k + 1] * p.w, p.owners[starts[k]], Z);
  return DONE;
}

// Call add(edge, g of its receiver, dx) for all edges, where threads have their own dx, and add them up.
template <typename T, typename Function>
int over_edges(const Problem<T>& p, const T* g, T* dx, Function add) {
  const std::vector<Int> starts = p.runs();
  const Int count = Int(starts.size()) - 1, size = p.M * p.nodes * p.C, rows = p.H() * p.M;
  if (count < 0) return NO_SUCH_NODE;
  // of every thread: dx, unless it is the first, and g of a receiver; made here, where an exception can be caught
  std::vector<std::vector<T>> others(p.threads), receivers(p.threads, std::vector<T>(rows * p.C));
  for (int thread = 1; thread < p.threads; ++thread) others[thread].resize(size);
#pragma omp parallel num_threads(p.threads) if (p.threads > 1)
  {
    const int thread = omp_get_thread_num();
    T* own = thread > 0 ? others[thread].data() : dx;
    T* of_receiver = receivers[thread].data();
#pragma omp for schedule(static)
    for (Int k = 0; k < count; ++k) {
      for (Int row = 0; row < rows; ++row)
        std::memcpy(of_receiver + row * p.C, g + (row * p.receivers + p.owners[starts[k]]) * p.C, p.C * sizeof(T));
      for (Int e = starts[k] * p.w; e < starts[k + 1] * p.w; ++e) add(e, of_receiver, own);
    }
  }
  for (const std::vector<T>& other : others)
    for (Int j = 0; j < Int(other.size()); ++j) dx[j] += other[j];
  return DONE;
}

template <typename T, int W>
int gradients(const Problem<T>& p, const T* g, T* dY, T* dR, T* dx) {
  return over_edges(p, g, dx, [&](Int e, const T* of_e, T* own) { add_gradients<T, W, 0>(p, e, of_e, dY, dR, own); });
}

template <typename T, int W>
int second(const Problem<T>& p, const Directions<T>& d, const T* g, T* dY, T* dR, T* dx) {
  return over_edges(p, g, dx, [&](Int e, const T* of_e, T* own) { add_second<T, W, 0>(p, d, e, of_e, dY, dR, own); });
}

// Call a function with as many lanes as the processor and the number of channels allow.
#define WITH_LANES(FUNCTION, T, ...)                                                           \
  constexpr int most = BYTES / sizeof(T), half = most / 2, quarter = half > 1 ? half / 2 : 1; \
  if (p.C % most == 0) return FUNCTION<T, most>(__VA_ARGS__);                                  \
  if (p.C % half == 0) return FUNCTION<T, half>(__VA_ARGS__);                                  \
  if (p.C % quarter == 0) return FUNCTION<T, quarter>(__VA_ARGS__);                            \
  return FUNCTION<T, 1>(__VA_ARGS__);

// The functions return a status; they change nothing if a sender or receiver does not exist.
#define INPUTS(T)                                                                                               \
  const Int *sizes, const T *Y, const T *R, const T *x, const Int *senders, const Int *owners, int threads
#define PROBLEM(T)                                                                                              \
  const Problem<T> p{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6],                      \
                     Y, R, x, senders, owners, threads};
#define GUARDED(...)                                                                                            \
  try {                                                                                                         \
    __VA_ARGS__                                                                                                 \
  } catch (const std::bad_alloc&) {                                                                             \
    return NO_MEMORY;                                                                                           \
  }
#define EXPORT(T)                                                                                               \
  extern "C" int sums_##T(INPUTS(T), T* Z) { PROBLEM(T) GUARDED(WITH_LANES(sums, T, p, Z)) }                    \
  extern "C" int gradients_##T(INPUTS(T), const T* g, T* dY, T* dR, T* dx) {                                    \
    PROBLEM(T) GUARDED(WITH_LANES(gradients, T, p, g, dY, dR, dx))                                              \
  }                                                                                                             \
  extern "C" int second_##T(INPUTS(T), const T* y, const T* r, const T* u, const T* g, T* dY, T* dR, T* dx) {   \
    PROBLEM(T)                                                                                                  \
    const Directions<T> d{y, r, u};                                                                             \
    GUARDED(WITH_LANES(second, T, p, d, g, dY, dR, dx))                                                         \
  }
EXPORT(float)
EXPORT(double)
