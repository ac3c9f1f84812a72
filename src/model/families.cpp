#include "model/families.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace millrace {

// One line a family.
Family llama_family();
Family gemma_family();
Family phi3_family();

std::span<const Family> all_families() {
  static const Family kFamilies[] = {llama_family(), gemma_family(), phi3_family()};
  return kFamilies;
}

namespace {

// Levenshtein's distance, over one row of the table.
size_t n_edits(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> known) {
  name = name.substr(0, 64);
  return *std::ranges::min_element(known, {}, [&](std::string_view other) { return n_edits(name, other); });
}

std::unique_ptr<Model> load_model(const Checkpoint& checkpoint) {
  const auto architecture = checkpoint.metadata().need<std::string_view>("general.architecture");
  std::vector<std::string_view> known;
  for (const Family& family : all_families()) {
    if (std::ranges::find(family.architectures, architecture) != family.architectures.end()) {
      return family.load(checkpoint);
    }
    known.insert(known.end(), family.architectures.begin(), family.architectures.end());
  }
  fail(ErrorKind::bad_model, "the architecture {} is not known; the nearest known one is {}",
       printable(architecture), nearest_name(architecture, known));
}

}  // namespace millrace
