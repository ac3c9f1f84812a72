// The text of the searches, for kLanes groups at once, a lane each. Every lane does what ggml's quantisers do
// for one group: the same candidates in the same order with the same float operations, so that the blocks
// come out bit for bit the same on every machine (MIT licence; the algorithms are by I. Kawrakow). Include
// inside an unnamed namespace, after a constant kLanes, and use nothing from std here: see searches.h.

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

struct Columns {
  float of[kMaxGroupSize][kLanes];  // element i of the groups side by side

  Floats operator[](int i) const {
    Floats column;
    __builtin_memcpy(&column, of[i], sizeof column);
    return column;
  }
  void set(int i, Floats column) { __builtin_memcpy(of[i], &column, sizeof column); }
};

// Up to kLanes groups; a lane without a group holds zeros.
struct Chunk {
  int size;
  Columns x, w;
};

void load(const GroupSpan& groups, const float* elements, int first, Columns& columns) {
  const int n = groups.n_groups - first < kLanes ? groups.n_groups - first : kLanes;
  __builtin_memset(&columns, 0, sizeof columns);
  for (int lane = 0; lane < n; ++lane) {
    const float* group = elements + (first + lane) * groups.size;
    for (int i = 0; i < groups.size; ++i) columns.of[i][lane] = group[i];
  }
}

void load(const GroupSpan& groups, int first, Chunk& chunk) {
  chunk.size = groups.size;
  load(groups, groups.x, first, chunk.x);
  if (groups.weights != nullptr) return load(groups, groups.weights, first, chunk.w);
  for (int i = 0; i < chunk.size; ++i) chunk.w.set(i, chunk.x[i] * chunk.x[i]);
}

// One float of each lane that has a group.
void store(const GroupSpan& groups, int first, Floats values, float* out, int stride = 1) {
  for (int lane = 0; lane < kLanes && first + lane < groups.n_groups; ++lane)
    out[(first + lane) * stride] = values[lane];
}

void store_levels(const GroupSpan& groups, int first, const Columns& columns, uint8_t* levels) {
  for (int lane = 0; lane < kLanes && first + lane < groups.n_groups; ++lane) {
    uint8_t* group = levels + (first + lane) * groups.size;
    for (int i = 0; i < groups.size; ++i) group[i] = static_cast<uint8_t>(columns.of[i][lane]);
  }
}

Floats magnitude(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & 0x7fffffff); }

bool any(Ints mask) {
  int32_t seen = 0;
  for (int lane = 0; lane < kLanes; ++lane) seen |= mask[lane];
  return seen != 0;
}

// nearest_int() within [low, high].
Floats nearest_level(Floats x, int low, int high) {
  Ints level = (reinterpret_cast<Ints>(x + 12582912.0f) & 0x007fffff) - 0x00400000;
  level = level < low ? Ints{} + low : level;
  level = level > high ? Ints{} + high : level;
  return __builtin_convertvector(level, Floats);
}

// The elements of the largest magnitude; the first of equals.
Floats largest(const Chunk& c) {
  Floats most{}, value{};
  for (int i = 0; i < c.size; ++i) {
    const Ints more = magnitude(c.x[i]) > most;
    most = more ? magnitude(c.x[i]) : most;
    value = more ? c.x[i] : value;
  }
  return value;
}

// Sums of a least-squares fit of x by one scale times levels.
struct Fit {
  Floats xl{};  // sum of w * x * l
  Floats ll{};  // sum of w * l * l

  void add(Floats x, Floats w, Floats l) {
    xl += w * x * l;
    ll += w * l * l;
  }
  Ints beats(Fit other) const { return (ll > 0.0f) & (xl * xl * other.ll > other.xl * other.xl * ll); }
};

Fit fit_signed(const Chunk& c, int n_max, Floats inverse) {
  Fit fit;
  for (int i = 0; i < c.size; ++i)
    fit.add(c.x[i], c.w[i], nearest_level(inverse * c.x[i], -n_max, n_max - 1));
  return fit;
}

void search_signed(const GroupSpan& groups, int n_max, float* scales, uint8_t* levels) {
  Chunk c;
  for (int first = 0; first < groups.n_groups; first += kLanes) {
    load(groups, first, c);
    const Floats max = largest(c);
    Floats best_inverse = static_cast<float>(-n_max) / max;
    Fit fit = fit_signed(c, n_max, best_inverse);
    Floats scale = fit.ll != 0.0f ? fit.xl / fit.ll : Floats{};
    Floats best = scale * fit.xl;
    for (int step = -9; step <= 9; ++step) {
      if (step == 0) continue;
      const Floats inverse = -(static_cast<float>(n_max) + 0.1f * static_cast<float>(step)) / max;
      fit = fit_signed(c, n_max, inverse);
      const Ints better = (fit.ll > 0.0f) & (fit.xl * fit.xl > best * fit.ll);
      best_inverse = better ? inverse : best_inverse;
      scale = better ? fit.xl / fit.ll : scale;
      best = better ? scale * fit.xl : best;
    }
    const Ints is_zero = magnitude(max) < kGroupEps;
    store(groups, first, is_zero ? Floats{} : scale, scales);
    Columns found;
    for (int i = 0; i < c.size; ++i) {
      const Floats level =
          nearest_level(best_inverse * c.x[i], -n_max, n_max - 1) + static_cast<float>(n_max);
      found.set(i, is_zero ? Floats{} : level);
    }
    store_levels(groups, first, found, levels);
  }
}

// One element at a time moves to the level that suits the fit of the others, until none does, at most 5
// rounds.
Fit descend(const Chunk& c, int n_max, Columns& levels, Fit fit) {
  for (int round = 0; round < 5; ++round) {
    Ints changed{};
    for (int i = 0; i < c.size; ++i) {
      const Floats x = c.x[i], w = c.w[i], old = levels[i];
      Fit other{fit.xl - w * x * old, fit.ll - w * old * old};
      const Ints may_try = other.xl > 0.0f;
      const Floats level = nearest_level(x * other.ll / other.xl, -n_max, n_max - 1);
      other.add(x, w, level);
      const Ints moves = may_try & (level != old) & other.beats(fit);
      levels.set(i, moves ? level : old);
      fit.xl = moves ? other.xl : fit.xl;
      fit.ll = moves ? other.ll : fit.ll;
      changed |= moves;
    }
    if (!any(changed)) break;
  }
  return fit;
}

void search_by_descent(const GroupSpan& groups, int n_max, float* scales, uint8_t* levels) {
  Chunk c;
  for (int first = 0; first < groups.n_groups; first += kLanes) {
    load(groups, first, c);
    const Floats max = largest(c);
    const Floats inverse = static_cast<float>(-n_max) / max;
    Columns found;
    for (int i = 0; i < c.size; ++i) found.set(i, nearest_level(inverse * c.x[i], -n_max, n_max - 1));
    const Fit fit = descend(c, n_max, found, fit_signed(c, n_max, inverse));
    const Ints is_zero = magnitude(max) < kGroupEps;
    store(groups, first, (fit.ll > 0.0f) & ~is_zero ? fit.xl / fit.ll : Floats{}, scales);
    for (int i = 0; i < c.size; ++i) found.set(i, is_zero ? Floats{} : found[i] + static_cast<float>(n_max));
    store_levels(groups, first, found, levels);
  }
}

template <ErrorMeasure measure>
Floats error_of(const Chunk& c, const Columns& levels, Floats scale, Floats min) {
  Floats error{};
  for (int i = 0; i < c.size; ++i) {
    const Floats diff = scale * levels[i] + min - c.x[i];
    error += c.w[i] * (measure == ErrorMeasure::absolute ? magnitude(diff) : diff * diff);
  }
  return error;
}

struct Extent {
  Floats min, max;
  Floats w, wx;  // sums
};

Extent extent_of(const Chunk& c) {
  Extent e{c.x[0], c.x[0], c.w[0], c.w[0] * c.x[0]};
  for (int i = 1; i < c.size; ++i) {
    e.min = c.x[i] < e.min ? c.x[i] : e.min;
    e.max = c.x[i] > e.max ? c.x[i] : e.max;
    e.w += c.w[i];
    e.wx += c.w[i] * c.x[i];
  }
  e.min = e.min > 0.0f ? Floats{} : e.min;
  return e;
}

void levels_above(const Chunk& c, int n_max, Floats inverse, Floats min, Columns& levels) {
  for (int i = 0; i < c.size; ++i) levels.set(i, nearest_level(inverse * (c.x[i] - min), 0, n_max));
}

struct LinearFit {
  Floats scale, min;
  Ints exists;
};

// Scale and minimum <= 0 that fit x best by the given levels.
LinearFit fit_linear(const Chunk& c, const Extent& e, const Columns& levels) {
  Floats l{}, ll{}, xl{};
  for (int i = 0; i < c.size; ++i) {
    const Floats wl = c.w[i] * levels[i];
    l += wl;
    ll += wl * levels[i];
    xl += wl * c.x[i];
  }
  const Floats determinant = e.w * ll - l * l;
  const Floats min = (ll * e.wx - l * xl) / determinant;
  const Ints above = min > 0.0f;
  return {above ? xl / ll : (e.w * xl - e.wx * l) / determinant, above ? Floats{} : min, determinant > 0.0f};
}

template <ErrorMeasure measure>
void search_scale_min(const GroupSpan& groups, int n_max, const ScaleMinSteps& steps, ScaleMin* found,
                      uint8_t* levels) {
  Chunk c;
  Columns tried;
  for (int first = 0; first < groups.n_groups; first += kLanes) {
    load(groups, first, c);
    const Extent extent = extent_of(c);
    Floats min = extent.min;
    Floats best_inverse = static_cast<float>(n_max) / (extent.max - min), best_from = min;
    Floats scale = 1.0f / best_inverse;
    levels_above(c, n_max, best_inverse, min, tried);
    Floats best_error = error_of<measure>(c, tried, scale, min);
    for (int step = 0; step <= steps.n; ++step) {
      // From the best minimum so far: later candidates build on earlier ones.
      const float range = steps.first + steps.delta * static_cast<float>(step) + static_cast<float>(n_max);
      const Floats inverse = range / (extent.max - min);
      levels_above(c, n_max, inverse, min, tried);
      const LinearFit fit = fit_linear(c, extent, tried);
      const Floats error = error_of<measure>(c, tried, fit.scale, fit.min);
      const Ints better = fit.exists & (error < best_error);
      best_error = better ? error : best_error;
      best_inverse = better ? inverse : best_inverse;
      best_from = better ? min : best_from;
      scale = better ? fit.scale : scale;
      min = better ? fit.min : min;
    }
    const Ints is_flat = ~(extent.max > extent.min);
    store(groups, first, is_flat ? Floats{} : scale, &found->scale, 2);
    store(groups, first, is_flat ? -extent.min : -min, &found->minimum, 2);
    levels_above(c, n_max, best_inverse, best_from, tried);
    for (int i = 0; i < c.size; ++i) tried.set(i, is_flat ? Floats{} : tried[i]);
    store_levels(groups, first, tried, levels);
  }
}

void search_scale_min_any(const GroupSpan& groups, int n_max, const ScaleMinSteps& steps, ScaleMin* found,
                          uint8_t* levels) {
  if (steps.measure == ErrorMeasure::absolute)
    return search_scale_min<ErrorMeasure::absolute>(groups, n_max, steps, found, levels);
  search_scale_min<ErrorMeasure::squared>(groups, n_max, steps, found, levels);
}

// The value of IQ4 nearest to x, the higher one of two equally near.
Floats nearest_iq4(Floats x) {
  Floats value = Floats{} + kIq4Levels[0];
  for (int i = 0; i < 15; ++i) {
    const Floats step = Floats{} + static_cast<float>(kIq4Levels[i + 1] - kIq4Levels[i]);
    value += x >= 0.5f * static_cast<float>(kIq4Levels[i] + kIq4Levels[i + 1]) ? step : Floats{};
  }
  return value;
}

Fit fit_iq4(const Chunk& c, Floats inverse) {
  Fit fit;
  for (int i = 0; i < c.size; ++i) {
    const Floats q = nearest_iq4(inverse * c.x[i]), wq = c.w[i] * q;
    fit.xl += wq * c.x[i];
    fit.ll += wq * q;
  }
  return fit;
}

void search_iq4(const GroupSpan& groups, float* scales) {
  constexpr int kTries = 7;  // candidates each side of the largest level
  Chunk c;
  for (int first = 0; first < groups.n_groups; first += kLanes) {
    load(groups, first, c);
    const Floats max = largest(c);
    Fit fit = fit_iq4(c, 1.0f / (-max / static_cast<float>(kIq4Levels[0])));
    Floats scale = fit.ll > 0.0f ? fit.xl / fit.ll : Floats{};
    Floats best = scale * fit.xl;
    for (int step = -kTries; step <= kTries; ++step) {
      fit = fit_iq4(c, static_cast<float>(step + kIq4Levels[0]) / max);
      const Ints better = (fit.ll > 0.0f) & (fit.xl * fit.xl > best * fit.ll);
      scale = better ? fit.xl / fit.ll : scale;
      best = better ? scale * fit.xl : best;
    }
    store(groups, first, magnitude(max) < kGroupEps ? Floats{} : scale, scales);
  }
}

constexpr Searches kSearches{search_signed, search_by_descent, search_scale_min_any, search_iq4};
