// The weights of a model as one list: name and shape. A family writes the list once; it serves loading,
// checking and inspection.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace millrace {

struct Weight {
  std::string name;            // as GGUF calls it
  std::vector<int64_t> shape;  // outermost first
  bool is_optional = false;
  bool is_f32 = false;      // vectors, and what is used as several of them
  bool is_table = false;    // of int32
  size_t n_replaced = 0;    // entries before it that it stands in for, where it is there
  Tensor* place = nullptr;  // where the model keeps its view
};

class WeightList {
 public:
  // Names added from here on belong to block `layer`: "blk.3." is put in front.
  void begin_layer(int64_t layer);
  void end_layers() { prefix_.clear(); }

  void add(Tensor& place, std::string_view name, std::vector<int64_t> shape);
  // Of float32 and nothing else, as vectors are.
  void add_f32(Tensor& place, std::string_view name, std::vector<int64_t> shape);
  // Left an empty tensor where the checkpoint has none.
  void add_optional(Tensor& place, std::string_view name, std::vector<int64_t> shape);

  // Of the same memory as the last `n_replaced` entries, which are missing where this one is there. They keep
  // empty tensors then, but for one that has the same place.
  void add_instead(Tensor& place, std::string_view name, std::vector<int64_t> shape, size_t n_replaced);

  // A matrix of int32: what tokens mean, no weight.
  void add_table(Tensor& place, std::string_view name, std::vector<int64_t> shape);

  // Tensors of the blocks [begin, end) are not bound, and no reason to refuse: layers of multi-token
  // prediction, which draft and change no result.
  void leave_out_layers(int64_t begin, int64_t end);

  const std::vector<Weight>& entries() const { return entries_; }

  // Points every place at its tensor; dimensions of 1 do not count. Throws Error(bad_model) when a tensor is
  // missing, has another shape or a format that cannot be used there (vectors are float32), and when
  // `checkpoint` holds a tensor that no entry names: a model that needs it would run wrongly.
  void bind(const Checkpoint& checkpoint) const;

 private:
  std::unordered_set<std::string_view> replaced_in(const Checkpoint& checkpoint) const;

  std::string prefix_;
  std::vector<Weight> entries_;
  std::vector<std::string> left_out_;  // prefixes of names
};

// Rows of the token embedding: the vocabulary that the model really has.
int64_t n_vocab_of(const Checkpoint& checkpoint, int64_t hidden);

// Rows of a tensor, or 0 where there is none. Throws Error(bad_model) for one that has no rows.
int64_t n_rows_of(const Checkpoint& checkpoint, std::string_view name);

}  // namespace millrace
