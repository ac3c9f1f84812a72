#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace millrace {
namespace {

// Dimensions of 1, which converters add and take away, do not count.
bool has_shape(const Tensor& tensor, const std::vector<int64_t>& shape) {
  const auto dims = [](auto begin, auto end) {
    std::vector<int64_t> kept;
    std::copy_if(begin, end, std::back_inserter(kept), [](int64_t dim) { return dim != 1; });
    return kept;
  };
  return dims(tensor.shape.begin(), tensor.shape.end()) == dims(shape.begin(), shape.end());
}

Tensor in_shape(Tensor tensor, const std::vector<int64_t>& shape) {
  tensor.n_dims = static_cast<int>(shape.size());
  tensor.shape.fill(1);
  std::ranges::copy(shape, tensor.shape.begin());
  return tensor;
}

std::string text_of(const std::vector<int64_t>& shape) { return fmt::format("({})", fmt::join(shape, ", ")); }

void check_entry(const Weight& weight, const Tensor& tensor) {
  if (!has_shape(tensor, weight.shape)) {
    fail(ErrorKind::bad_model, "tensor {} should have the shape {}, found {}", weight.name,
         text_of(weight.shape), shape_text(tensor));
  }
  if (weight.is_table) {
    if (tensor.dtype == Dtype::i32) return;
    fail(ErrorKind::bad_model, "tensor {} should be I32, found {}", weight.name,
         format_of(tensor.dtype).name);
  }
  if (weight.is_f32 ? tensor.dtype != Dtype::f32 : tensor.dtype == Dtype::i32) {
    fail(ErrorKind::bad_model, "tensor {} should be {}, found {}", weight.name,
         weight.is_f32 ? "F32" : "a format of weights", format_of(tensor.dtype).name);
  }
}

// Tensors that old converters left in files and nothing reads.
bool is_leftover(std::string_view name) {
  return name.ends_with(".attn_rot_embd.weight") || name.ends_with(".attn_rot_embd");
}

}  // namespace

void WeightList::begin_layer(int64_t layer) { prefix_ = fmt::format("blk.{}.", layer); }

void WeightList::add(Tensor& place, std::string_view name, std::vector<int64_t> shape) {
  const bool is_vector = shape.size() == 1;
  entries_.push_back({.name = prefix_ + std::string(name),
                      .shape = std::move(shape),
                      .is_optional = false,
                      .is_f32 = is_vector,
                      .place = &place});
}

void WeightList::add_f32(Tensor& place, std::string_view name, std::vector<int64_t> shape) {
  add(place, name, std::move(shape));
  entries_.back().is_f32 = true;
}

void WeightList::add_optional(Tensor& place, std::string_view name, std::vector<int64_t> shape) {
  add(place, name, std::move(shape));
  entries_.back().is_optional = true;
}

void WeightList::add_instead(Tensor& place, std::string_view name, std::vector<int64_t> shape,
                             size_t n_replaced) {
  add_optional(place, name, std::move(shape));
  entries_.back().n_replaced = n_replaced;
  entries_.back().is_f32 = entries_[entries_.size() - 2].is_f32;
}

void WeightList::add_table(Tensor& place, std::string_view name, std::vector<int64_t> shape) {
  add(place, name, std::move(shape));
  entries_.back().is_table = true;
}

void WeightList::leave_out_layers(int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) left_out_.push_back(fmt::format("blk.{}.", i));
}

// Names of the entries that another one stands in for.
std::unordered_set<std::string_view> WeightList::replaced_in(const Checkpoint& checkpoint) const {
  std::unordered_set<std::string_view> replaced;
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].n_replaced == 0 || checkpoint.find(entries_[i].name) == nullptr) continue;
    for (size_t j = i - entries_[i].n_replaced; j < i; ++j) replaced.insert(entries_[j].name);
  }
  return replaced;
}

void WeightList::bind(const Checkpoint& checkpoint) const {
  const std::unordered_set<std::string_view> replaced = replaced_in(checkpoint);
  std::unordered_set<std::string_view> known;
  for (const Weight& weight : entries_) {
    if (replaced.contains(weight.name)) {
      *weight.place = Tensor();
      continue;
    }
    known.insert(weight.name);
    const Tensor* tensor = checkpoint.find(weight.name);
    if (tensor == nullptr && weight.n_replaced > 0) continue;  // the place is another entry's
    if (tensor == nullptr && !weight.is_optional) {
      fail(ErrorKind::bad_model, "the model has no tensor {} {}", weight.name, text_of(weight.shape));
    }
    if (tensor != nullptr) check_entry(weight, *tensor);
    *weight.place = tensor == nullptr ? Tensor() : in_shape(*tensor, weight.shape);
  }
  int64_t n_left_out = 0;
  const auto is_left_out = [&](std::string_view name) {
    return std::ranges::any_of(left_out_,
                               [&](const std::string& prefix) { return name.starts_with(prefix); });
  };
  for (const NamedTensor& named : checkpoint.tensors()) {
    n_left_out += is_left_out(named.name) ? 1 : 0;
    if (is_left_out(named.name) || known.contains(named.name) || is_leftover(named.name)) continue;
    fail(ErrorKind::bad_model,
         "tensor {} is not one that this architecture has; the model would run without it",
         printable(named.name));
  }
  if (n_left_out > 0)
    log_info("{} tensors of layers for multi-token prediction are left out: nothing drafts", n_left_out);
}

int64_t n_vocab_of(const Checkpoint& checkpoint, int64_t hidden) {
  const Tensor* table = checkpoint.find("token_embd.weight");
  if (table == nullptr) fail(ErrorKind::bad_model, "the model has no tensor token_embd.weight");
  if (table->n_dims != 2 || table->dim(1) != hidden || table->dim(0) < 1) {
    fail(ErrorKind::bad_model, "tensor token_embd.weight should have the shape (vocabulary, {}), found {}",
         hidden, shape_text(*table));
  }
  return table->dim(0);
}

int64_t n_rows_of(const Checkpoint& checkpoint, std::string_view name) {
  const Tensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) return 0;
  if (tensor->dim(0) < 1) fail(ErrorKind::bad_model, "tensor {} has no rows", name);
  return tensor->dim(0);
}

}  // namespace millrace
