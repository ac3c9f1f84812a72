// logits: the logits of every position of some tokens, as a NumPy file.
#include <cstring>

#include "base/file.h"
#include "cli/loaded_model.h"
#include "cli/verb.h"
#include "engine/scoring.h"

namespace millrace {
namespace {

// The header of a NumPy 1.0 file of float32 (n_rows, n_cols); the elements follow (numpy.lib.format).
std::string npy_header(int64_t n_rows, int64_t n_cols) {
  std::string text =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", n_rows, n_cols);
  constexpr size_t kPrefix = 10, kAlignment = 64;
  text.append(kAlignment - (kPrefix + text.size() + 1) % kAlignment, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 255);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

class Logits final : public Command {
 public:
  Logits() { compute_.kv_dtype = "f32"; }

  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file (of a split model, the first)", model_, Args::Presence::needed);
    args.option("--tokens", "Token ids: 1,2,3", tokens_);
    args.option("-o,--output", "The .npy file to write: float32 (n_tokens, n_vocab)", output_);
    args.option("--chunk", "Compute at most so many positions at once", chunk_);
    compute_.declare(args);
  }

  void run() override {
    if (tokens_.empty()) fail(ErrorKind::usage, "logits: --tokens is missing");
    if (output_.empty()) fail(ErrorKind::usage, "logits: --output is missing");
    if (chunk_ < 1) fail(ErrorKind::usage, "--chunk is {}, expected at least 1", chunk_);
    const std::vector<int32_t> tokens = parse_ids(tokens_, "--tokens");
    LoadedModel loaded = load(model_, compute_, WithTokenizer::no);
    const auto n_tokens = static_cast<int64_t>(tokens.size());
    if (n_tokens > loaded.model->shape().n_ctx_train) {
      fail(ErrorKind::usage, "{} tokens, the model was trained for {}", n_tokens,
           loaded.model->shape().n_ctx_train);
    }
    place_weights(loaded, compute_, Scorer::shape(*loaded.model, n_tokens, chunk_, compute_.kv_type()));
    Scorer scorer(*loaded.model, *loaded.backend, n_tokens, chunk_, compute_.kv_type());
    std::string file = npy_header(n_tokens, loaded.model->shape().n_vocab);
    scorer.score(tokens, [&](int64_t, const Tensor& logits) {
      file.append(reinterpret_cast<const char*>(logits.data), static_cast<size_t>(logits.n_bytes()));
    });
    write_file_atomically(output_, file);
  }

 private:
  std::string model_, tokens_, output_;
  int64_t chunk_ = 512;
  ComputeOptions compute_;
};

}  // namespace

std::unique_ptr<Command> make_logits() { return std::make_unique<Logits>(); }

}  // namespace millrace
