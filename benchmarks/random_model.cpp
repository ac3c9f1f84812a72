// Writes a model of random weights in the shape of a real one: speed does not depend on what they say.
//   random_model SHAPE TYPE FILE.gguf [--layers N]     random_model llama-8b Q4_K_M /dev/shm/model.gguf
// TYPE is a format or a mixture, as of `millrace quantize`. Without a tokenizer: `millrace bench` needs none.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <random>

#include "checkpoint/gguf.h"
#include "checkpoint/listed_checkpoint.h"
#include "checkpoint/mixture.h"

namespace millrace {
namespace {

struct Shape {
  std::string_view name, architecture;
  int64_t n_layers, hidden, n_ff, n_heads, n_kv_heads, head_dim, n_vocab;
  double rope_theta;
  bool has_head = true;
  int64_t n_experts = 0, n_used = 0;  // then n_ff is that of an expert
};

// One line a model. The last is small enough for anything.
constexpr Shape kShapes[] = {
    {"llama-8b", "llama", 32, 4096, 14336, 32, 8, 128, 128256, 5e5},
    {"llama-1b", "llama", 16, 2048, 8192, 32, 8, 64, 128256, 5e5, false},
    {"qwen3-4b", "qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 1e6, false},
    {"qwen3-30b-a3b", "qwen3moe", 48, 2048, 768, 32, 4, 128, 151936, 1e6, true, 128, 8},
    {"tiny", "llama", 2, 256, 512, 4, 2, 64, 512, 1e4},
};

const Shape& shape_of(const std::string& name) {
  for (const Shape& shape : kShapes) {
    if (shape.name == name) return shape;
  }
  std::string names;
  for (const Shape& shape : kShapes) names += fmt::format(" {}", shape.name);
  fail(ErrorKind::usage, "SHAPE {} is not known; known:{}", printable(name), names);
}

// Names and shapes alone.
class Outline final : public ListedCheckpoint {
 public:
  explicit Outline(const Shape& s) : ListedCheckpoint(list(s)) {
    const std::string prefix = std::string(s.architecture) + ".";
    metadata_.add("general.architecture", s.architecture);
    metadata_.add("general.name", s.name);
    const std::pair<const char*, int64_t> numbers[] = {{"block_count", s.n_layers},
                                                       {"context_length", 131072},
                                                       {"embedding_length", s.hidden},
                                                       {"feed_forward_length", s.n_ff},
                                                       {"attention.head_count", s.n_heads},
                                                       {"attention.head_count_kv", s.n_kv_heads},
                                                       {"attention.key_length", s.head_dim},
                                                       {"attention.value_length", s.head_dim},
                                                       {"vocab_size", s.n_vocab}};
    for (const auto& [key, value] : numbers) metadata_.add(prefix + key, value);
    metadata_.add(prefix + "attention.layer_norm_rms_epsilon", 1e-5);
    metadata_.add(prefix + "rope.freq_base", s.rope_theta);
    if (s.n_experts == 0) return;
    metadata_.add(prefix + "expert_count", s.n_experts);
    metadata_.add(prefix + "expert_used_count", s.n_used);
    metadata_.add(prefix + "expert_feed_forward_length", s.n_ff);
  }
  const Metadata& metadata() const override { return metadata_; }

 private:
  static std::vector<NamedTensor> list(const Shape& s) {
    std::vector<NamedTensor> all;
    const auto vector = [&](std::string name, int64_t n) {
      all.push_back({std::move(name), Tensor(nullptr, Dtype::f32, {n})});
    };
    const auto matrix = [&](std::string name, int64_t n_out, int64_t n_in) {
      all.push_back({std::move(name), Tensor(nullptr, Dtype::bf16, {n_out, n_in})});
    };
    const auto experts = [&](std::string name, int64_t n_out, int64_t n_in) {
      all.push_back({std::move(name), Tensor(nullptr, Dtype::bf16, {s.n_experts, n_out, n_in})});
    };
    matrix("token_embd.weight", s.n_vocab, s.hidden);
    for (int64_t i = 0; i < s.n_layers; ++i) {
      const std::string block = fmt::format("blk.{}.", i);
      vector(block + "attn_norm.weight", s.hidden);
      matrix(block + "attn_q.weight", s.n_heads * s.head_dim, s.hidden);
      matrix(block + "attn_k.weight", s.n_kv_heads * s.head_dim, s.hidden);
      matrix(block + "attn_v.weight", s.n_kv_heads * s.head_dim, s.hidden);
      matrix(block + "attn_output.weight", s.hidden, s.n_heads * s.head_dim);
      if (s.architecture.starts_with("qwen3")) {
        vector(block + "attn_q_norm.weight", s.head_dim);
        vector(block + "attn_k_norm.weight", s.head_dim);
      }
      vector(block + "ffn_norm.weight", s.hidden);
      if (s.n_experts > 0) {
        all.push_back({block + "ffn_gate_inp.weight", Tensor(nullptr, Dtype::f32, {s.n_experts, s.hidden})});
        experts(block + "ffn_gate_exps.weight", s.n_ff, s.hidden);
        experts(block + "ffn_up_exps.weight", s.n_ff, s.hidden);
        experts(block + "ffn_down_exps.weight", s.hidden, s.n_ff);
      } else {
        matrix(block + "ffn_gate.weight", s.n_ff, s.hidden);
        matrix(block + "ffn_up.weight", s.n_ff, s.hidden);
        matrix(block + "ffn_down.weight", s.hidden, s.n_ff);
      }
    }
    vector("output_norm.weight", s.hidden);
    if (s.has_head) matrix("output.weight", s.n_vocab, s.hidden);
    return all;
  }

  Metadata metadata_;
};

// The elements of a tensor: rows drawn from a few that are encoded, which is what takes long.
class Filler {
 public:
  std::span<const std::byte> fill(const Tensor& tensor) {
    constexpr int64_t kEncodedRows = 61;
    const int64_t n_cols = tensor.n_cols(), n_encoded = std::min(kEncodedRows, tensor.n_rows());
    const auto row_bytes = static_cast<size_t>(tensor.row_bytes());
    std::vector<std::byte> encoded(static_cast<size_t>(n_encoded) * row_bytes);
    std::vector<float> row(static_cast<size_t>(n_cols));
    for (int64_t i = 0; i < n_encoded; ++i) {
      // Norms lie around 1.
      const float mean = tensor.n_dims == 1 ? 1.0f : 0.0f,
                  deviation = 1.0f / std::sqrt(static_cast<float>(n_cols));
      for (float& value : row) value = std::normal_distribution<float>(mean, deviation)(random_);
      format_of(tensor.dtype)
          .encode(row.data(), encoded.data() + static_cast<size_t>(i) * row_bytes, n_cols, {});
    }
    bytes_.resize(static_cast<size_t>(tensor.n_bytes()));
    for (size_t at = 0; at < bytes_.size(); at += row_bytes) {
      const std::byte* from = encoded.data() + random_() % static_cast<uint64_t>(n_encoded) * row_bytes;
      std::copy_n(from, row_bytes, bytes_.data() + at);
    }
    return bytes_;
  }

 private:
  std::mt19937 random_{1};
  std::vector<std::byte> bytes_;
};

void write(Shape shape, const std::string& type, const std::string& path, int64_t n_layers) {
  if (n_layers > 0) shape.n_layers = n_layers;
  const Mixture* mixture = find_mixture(type);
  if (mixture == nullptr) fail(ErrorKind::usage, "TYPE {} is not known", printable(type));
  const Outline outline(shape);
  const std::vector<FormatChoice> choices = choose_formats(outline, {.mixture = mixture});
  std::vector<NamedTensor> tensors(outline.tensors().begin(), outline.tensors().end());
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].tensor.dtype = choices[i].dtype;
  Filler filler;
  write_gguf(path, {.metadata = outline.metadata(), .tensors = tensors, .bytes_of = [&](size_t i) {
                      return filler.fill(tensors[i].tensor);
                    }});
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  std::string shape, type, path;
  int64_t n_layers = 0;
  CLI::App app("Writes a model of random weights in the shape of a real one");
  app.add_option("SHAPE", shape)->required();
  app.add_option("TYPE", type, "a format or a mixture, as of `millrace quantize`")->required();
  app.add_option("FILE", path)->required();
  app.add_option("--layers", n_layers, "how many, instead of all")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    millrace::write(millrace::shape_of(shape), type, path, n_layers);
  } catch (const millrace::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.kind());
  }
}
