// Which tensors of a Hugging Face checkpoint make which tensor of the model, and how.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "model/hf/model_class.h"
#include "model/hf/quantisation.h"

namespace millrace {

// Heads of the projections whose rows are paired or divided.
struct HeadCounts {
  int64_t n_heads = 1;
  int64_t n_kv_heads = 1;
  int64_t nope_dim = 0;    // of latent attention: dimensions of a key that come of the latent
  int64_t v_head_dim = 0;  // and of a value
};

// One tensor of the model: its name and shape, and the parts it is made of.
class HfTensor {
 public:
  HfTensor(std::string name, HfChange change, HfOrder order)
      : name_(std::move(name)), change_(change), order_(std::move(order)) {}

  // Adds the part of expert `expert`, or the only one (-1). Throws Error(bad_model) when it is there already.
  void add_part(int64_t expert, const HfPart& part);
  // Checks the parts against each other and settles the shape. To be called once, when all parts are there.
  void finish(const HeadCounts& heads);

  const std::string& name() const { return name_; }
  // The tensor without its elements, or with them where they are those of the file.
  const Tensor& layout() const { return layout_; }
  bool is_view() const { return layout_.data != nullptr; }
  // Writes layout().n_bytes() bytes. Threads may write different tensors at a time.
  void write(std::byte* out) const;

 private:
  void transpose_packed();
  void settle_format();
  void settle_rows();
  void settle_latent();
  bool is_transposed() const;
  bool is_latent() const;
  void write_chosen_rows(std::byte* out) const;
  void write_latent(std::byte* out) const;
  void write_rows(std::byte* out) const;
  void settle_order();
  void write_columns(const Tensor& part, std::byte* out) const;

  std::string name_;
  HfChange change_;  // what is left to do
  HfOrder order_;
  bool is_stacked_ = false;
  int64_t n_paired_heads_ = 0;
  HeadCounts heads_;
  std::vector<HfPart> parts_;
  Dtype stored_ = Dtype::f32;  // of the parts, all of them
  Tensor layout_;
};

// What of a checkpoint is wanted, and what its tensors do not say themselves.
struct HfScope {
  HeadCounts heads;
  bool is_tied = false;
  int64_t n_layers = 0;
  int64_t n_draft_layers = 0;  // behind them: of multi-token prediction, left out
};

// Whether the tensor belongs to what turns images or sound into embeddings: a text model does without.
bool is_of_tower(std::string_view name);
// Whether `name` is that of a buffer which a class computes by itself.
bool is_buffer(std::string_view name);

// The tensors of the model, blocks in their order. Throws Error(bad_model) for a tensor that no rule knows.
std::vector<HfTensor> map_tensors(std::span<const HfPart> parts, const HfModelClass& model_class,
                                  const Metadata& metadata, const HfScope& scope);

}  // namespace millrace
