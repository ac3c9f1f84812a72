// exp, tanh and what is made of them: one formula for every lane and every path.

// e^x = 2^n y with n whole, for x within the bounds of exp_of.
struct ExpParts {
  Floats y;
  Floats n;
};
inline ExpParts exp_parts(Floats x) {
  // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts, so that n times the first is exact
  const Floats n = round(mul(x, splat(1.44269504f)));
  Floats r = fnma(n, splat(0.693359375f), x);
  r = fnma(n, splat(-2.12194440e-4f), r);
  Floats p = splat(1.9875691500e-4f);  // the coefficients of Cephes expf
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  return {add(fma(mul(r, r), p, r), splat(1.0f)), n};
}

// e^x. Below -87.3 the result is 0, above 88.7 infinity: float32 ends there (subnormals are left out).
inline Floats exp_of(Floats x) {
  const Floats least = splat(-87.33654f), most = splat(88.72283f);
  const auto [y, n] = exp_parts(min(max(x, least), most));
  // 2^n in two steps, since 2^128 is no float
  const Floats half = round(mul(n, splat(0.5f)));
  const Floats scaled = scale_by_power(scale_by_power(y, half), sub(n, half));
  const Floats bounded = select_less(x, least, zeros(), scaled);
  return select_less(most, x, splat(__builtin_inff()), bounded);
}

// exp_of for x <= 0, in fewer steps.
inline Floats exp_of_negative(Floats x) {
  const Floats least = splat(-87.33654f);
  const auto [y, n] = exp_parts(max(x, least));
  return select_less(x, least, zeros(), scale_by_power(y, n));
}

inline Floats tanh_of(Floats x) {
  const Floats size = abs(x);
  // from 0.625 on: 1 - 2 / (e^2x + 1)
  const Floats e = exp_of(add(size, size));
  const Floats large = sub(splat(1.0f), div(splat(2.0f), add(e, splat(1.0f))));
  const Floats z = mul(x, x);
  Floats p = splat(-5.70498872745e-3f);  // the coefficients of Cephes tanhf
  p = fma(p, z, splat(2.06390887954e-2f));
  p = fma(p, z, splat(-5.37397155531e-2f));
  p = fma(p, z, splat(1.33314422036e-1f));
  p = fma(p, z, splat(-3.33332819422e-1f));
  const Floats small = fma(mul(p, z), size, size);
  return copy_sign(select_less(size, splat(0.625f), small, large), x);
}

inline Floats silu_of(Floats x) { return div(x, add(splat(1.0f), exp_of(sub(zeros(), x)))); }
inline Floats sigmoid_of(Floats x) { return div(splat(1.0f), add(splat(1.0f), exp_of(sub(zeros(), x)))); }

// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
inline Floats gelu_tanh_of(Floats x) {
  const Floats inner = mul(mul(x, splat(0.797884561f)), fma(mul(x, x), splat(0.044715f), splat(1.0f)));
  return mul(mul(x, splat(0.5f)), add(splat(1.0f), tanh_of(inner)));
}

// x * sigmoid(1.702 x)
inline Floats quick_gelu_of(Floats x) { return div(x, add(splat(1.0f), exp_of(mul(splat(-1.702f), x)))); }

// x / 2 * erfc(-x / sqrt(2)). With z = |x| / sqrt(2) and t = 1 / (1 + z / 2), erfc(z) is exp(-z^2) * t *
// P(t): P interpolates in the Chebyshev nodes of 0 <= z <= 6.5, to 4e-8 of the value.
inline Floats gelu_erf_of(Floats x) {
  const Floats z = mul(abs(x), splat(0.707106781f));
  const Floats t = div(splat(1.0f), fma(z, splat(0.5f), splat(1.0f)));
  Floats p = splat(-0.054104004055f);
  p = fma(p, t, splat(0.26000615954f));
  p = fma(p, t, splat(-0.43543091416f));
  p = fma(p, t, splat(0.21753981709f));
  p = fma(p, t, splat(0.016220003366f));
  p = fma(p, t, splat(0.18392840028f));
  p = fma(p, t, splat(0.24805307388f));
  p = fma(p, t, splat(0.28165721893f));
  p = fma(p, t, splat(0.28213021159f));
  const Floats erfc = mul(mul(p, t), exp_of(sub(zeros(), mul(z, z))));
  const Floats part = mul(mul(x, splat(0.5f)), erfc);
  return select_less(x, zeros(), part, sub(x, part));
}

// The activations as types, in the order of Activation.
struct None {
  static Floats of(Floats x) { return x; }
};
struct Silu {
  static Floats of(Floats x) { return silu_of(x); }
};
struct Sigmoid {
  static Floats of(Floats x) { return sigmoid_of(x); }
};
struct GeluTanh {
  static Floats of(Floats x) { return gelu_tanh_of(x); }
};
struct GeluErf {
  static Floats of(Floats x) { return gelu_erf_of(x); }
};
struct QuickGelu {
  static Floats of(Floats x) { return quick_gelu_of(x); }
};
