// From config.json to the keys of GGUF: the part that every decoder shares.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "model/hf/config.h"
#include "model/hf/model_class.h"

namespace millrace {

// The metadata and the extra vectors that a config becomes. Owns its strings.
class HfKeys {
 public:
  struct Vector {
    std::string name;
    std::vector<float> values;
  };

  explicit HfKeys(std::string_view architecture);

  // `key` without the architecture, as in Hparams.
  void set(std::string_view key, MetaValue value);
  void set_text(std::string_view key, std::string_view text);
  // A tensor that the config holds.
  void add_vector(std::string_view name, std::vector<float> values);

  Metadata& metadata() { return metadata_; }
  const Metadata& metadata() const { return metadata_; }
  const std::vector<Vector>& vectors() const { return vectors_; }
  // Keeps a copy for as long as this lives.
  std::string_view keep(std::string_view text) { return texts_.emplace_back(text); }

 private:
  std::string architecture_;
  Metadata metadata_;
  std::vector<Vector> vectors_;
  std::deque<std::string> texts_;  // stable addresses
};

// Widths, heads, layers, rotary dimensions and the epsilon of the norms. `n_ff` is what the config calls the
// width of a dense feed-forward.
void write_decoder_keys(HfConfig& config, HfKeys& keys, std::string_view n_ff = "intermediate_size");
// The part of it that is the same where layers have heads and feed-forwards of different sizes: neither
// key-value heads nor their sizes nor the width of the feed-forward.
void write_body_keys(HfConfig& config, HfKeys& keys);
// A count for each layer: one number where all are equal.
void set_counts(HfKeys& keys, std::string_view key, std::vector<int64_t> counts);

// The same of an encoder, without context_length; `eps` is what the class calls the epsilon of its layer
// norms.
void write_encoder_keys(HfConfig& config, HfKeys& keys, std::string_view eps);

// The base and the scaling of the rotation, in either spelling; `layer_type` picks one of several.
void write_rope_keys(HfConfig& config, HfKeys& keys, std::string_view layer_type = "full_attention");
// Widths and ranks of latent attention in place of write_decoder_keys' heads, and its rotation, which is
// plain or yarn and grows scores in place of cos and sin. With feed_forward_length.
void write_latent_keys(HfConfig& config, HfKeys& keys);

// Ranks and widths of latent attention alone: nothing of the rest of the model, nor of its rotation but its
// width.
void write_latent_size_keys(HfConfig& config, HfKeys& keys);
// Heads of an indexer, and how many positions it selects.
void write_indexer_keys(HfConfig& config, HfKeys& keys);
// Streams of hyper-connections, and how they mix.
void write_hyper_keys(HfConfig& config, HfKeys& keys);

// Layers that see everything turn a share of the pairs of a head, the others stand still (rope_type
// proportional). GGUF says it with divisors, huge ones for pairs that stand still.
void write_proportional_rope_keys(HfConfig& config, HfKeys& keys, int64_t head_dim);
// The base of a layer type that rotates without scaling; refused when it scales. `otherwise` where the config
// has none.
double read_plain_rope_base(HfConfig& config, std::string_view layer_type, double otherwise);

// Which layers are of one type, and what the others may be.
struct LayerTypes {
  std::string_view type = "sliding_attention";
  std::vector<std::string_view> others = {"full_attention"};
};
// What layer_types says, or `otherwise`, which has a flag for each layer.
std::vector<bool> read_layer_types(HfConfig& config, const LayerTypes& types, std::vector<bool> otherwise);
// sliding_window and the layers that slide. `slides` is what the class does where the config has no
// layer_types; `implied_period` is the pattern that a GGUF file without one means (Hparams::pattern_or), and
// is then not written.
void write_window_keys(HfConfig& config, HfKeys& keys, std::vector<bool> slides, int64_t implied_period);

}  // namespace millrace
