// Measures, for every column of some weights, what it is multiplied with: the squares of the inputs of
// `linear`, `linear_gated`,
// `head_linear`, `route` and the experts, summed over all rows that pass.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "tensor/column_sums.h"

namespace millrace {

class ImportanceBackend final : public Backend {
 public:
  struct Watched {
    std::string name;
    Tensor weight;  // (n_out, n_in), or (n_matrices, n_out, n_in)
  };

  // `inner` must outlive this, and computes. An op's weight is known by where it lies: within one of
  // `watched`, whole or as a view of some rows.
  ImportanceBackend(Backend& inner, const std::vector<Watched>& watched);

  std::string_view name() const override { return inner_.name(); }
  void run(const Op& op) override;

  // By the names that were watched; those that no op read are not there.
  std::map<std::string, ColumnSums, std::less<>> sums() const;

 private:
  struct Entry {
    std::string name;
    Tensor weight;
    ColumnSums sums;
    const void* last_input = nullptr;  // of the op at hand: parts of one fused weight count it once

    int64_t n_matrices() const { return weight.n_dims == 3 ? weight.dim(0) : 1; }
  };

  template <class AnyOp>
  void measure(const AnyOp&) {}
  void measure(const Linear& op);
  void measure(const LinearGated& op);
  void measure(const HeadLinear& op);
  void measure(const Route& op) { add_all(op.weight, op.x); }
  void measure(const MoeGated& op);
  void measure(const MoeDown& op);

  // The watched tensor that holds `weight`, or nullptr.
  Entry* entry_of(const Tensor& weight);
  // The entry to add the rows of x to; nullptr where nobody watches, or where they were added already.
  Entry* begin(const Tensor& weight, const Tensor& x);
  // Every row of x passes `weight`.
  void add_all(const Tensor& weight, const Tensor& x);
  // Row r of x, or row (r, j), passes expert experts[r, j]; times weights[r, j], where there are some.
  void add_chosen(const Tensor& weight, const Tensor& x, const Tensor& experts, const Tensor& weights);
  // The first elements of row `row` of x, as many as the weight has columns, times `scale`.
  struct Row {
    const Tensor& x;
    int64_t row;
    double scale = 1.0;
  };
  void add_row(Entry& entry, int64_t matrix, const Row& row);

  Backend& inner_;
  std::map<const std::byte*, Entry> entries_;  // by where the weight begins
  std::vector<float> row_;
};

}  // namespace millrace
