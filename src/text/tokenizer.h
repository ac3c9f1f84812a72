// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace millrace {

// const after it is made; any thread may use it.
class Tokenizer {
 public:
  struct Options {
    bool add_special = true;  // BOS, EOS and the like, as the model's own setting says
    // Texts of control tokens in the input become those tokens (never for user text), but for those that
    // cover a byte of `literal`: offsets in the input, ascending.
    bool parse_special = false;
    std::span<const size_t> literal{};
  };

  virtual ~Tokenizer() = default;

  // Any bytes are input; broken UTF-8 is handled as the model's original tokenizer handles it.
  virtual std::vector<int32_t> encode(std::string_view text, Options options) const = 0;

  // Where the text of a control token begins in `text`, or might begin if more text followed. Ascending.
  virtual std::vector<size_t> control_begins(std::string_view text) const = 0;

  // Two texts as a model reads them that was trained to compare them ("[CLS] first [SEP] second [SEP]"), with
  // the segment of each token. Nothing where the tokenizer has no such frame.
  struct Pair {
    std::vector<int32_t> ids, types;
  };
  virtual std::optional<Pair> encode_pair(std::string_view first, std::string_view second) const = 0;

  // The bytes that a token adds to a text, which may be part of a character. Control tokens add nothing
  // unless `show_special`; ids outside of the vocabulary add nothing.
  virtual std::string token_bytes(int32_t id, bool show_special) const = 0;

  // The text of a whole sequence, as the original decoder gives it (a leading space that the encoder added is
  // dropped). Not always valid UTF-8: TextStream repairs it.
  virtual std::string decode(std::span<const int32_t> ids, bool show_special) const = 0;

  // A token as the vocabulary spells it ("Ġthe", "▁the", "<0x0A>").
  virtual std::string piece(int32_t id) const = 0;
  virtual int32_t n_vocab() const = 0;
  // The token spelt exactly so in the vocabulary.
  virtual std::optional<int32_t> find_piece(std::string_view piece) const = 0;

  virtual std::optional<int32_t> bos() const = 0;
  virtual std::optional<int32_t> eos() const = 0;
  // Tokens that end an answer (eos, end of turn, ...), ascending.
  virtual std::span<const int32_t> end_tokens() const = 0;
};

// From the tokenizer.ggml.* keys of a GGUF file. The metadata must outlive the tokenizer.
// Throws Error(bad_model) for a kind that is not known or data that contradict themselves.
std::unique_ptr<Tokenizer> load_tokenizer(const Metadata& metadata);

// From the content of a tokenizer.json, with what tokenizer_config.json adds (null where there is none).
std::unique_ptr<Tokenizer> load_tokenizer_json(const Json& tokenizer, const Json& config);

}  // namespace millrace
