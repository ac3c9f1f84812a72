// Importance matrices: how much each column of a weight counts, measured on a text (the mean square of what
// it is multiplied with). In llama.cpp's GGUF form, or its older one (.dat).
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/column_sums.h"

namespace millrace {

struct MeasuredImportance {
  std::map<std::string, ColumnSums, std::less<>> weights;  // by the name of the weight
  std::string dataset;                                     // the name of the text
  int64_t n_chunks = 0, chunk_tokens = 0;
};

// The older form where the name ends in .dat.
void write_importance(const std::filesystem::path& path, const MeasuredImportance& measured);

class Importance {
 public:
  // Throws Error(bad_model) for anything but a sound file of either form.
  explicit Importance(const std::filesystem::path& path);

  // (n_matrices, n_cols) mean squares, >= 0; empty where the file has nothing for this weight. An expert that
  // no row reached has ones.
  std::span<const float> find(std::string_view weight) const;

  size_t n_weights() const { return weights_.size(); }
  const std::string& dataset() const { return dataset_; }
  int64_t n_chunks() const { return n_chunks_; }

 private:
  void read_gguf(const std::filesystem::path& path);
  void read_dat(const std::filesystem::path& path);
  void check_values() const;

  std::map<std::string, std::vector<float>, std::less<>> weights_;
  std::string dataset_;
  int64_t n_chunks_ = 0;
};

}  // namespace millrace
