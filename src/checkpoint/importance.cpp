#include "checkpoint/importance.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <optional>

#include "base/file.h"
#include "checkpoint/gguf.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr size_t kMaxDatBytes = size_t{1} << 30;

std::string shown(const fs::path& path) { return printable(path.string(), 400); }

bool is_gguf(const fs::path& path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == "GGUF";
}

// The little-endian numbers of a .dat file, never past its end.
class DatReader {
 public:
  DatReader(std::string_view bytes, const fs::path& path) : bytes_(bytes), path_(path) {}

  bool is_at_end() const { return bytes_.empty(); }
  std::string_view take(size_t n) {
    if (n > bytes_.size())
      fail(ErrorKind::bad_model, "{} ends within an importance matrix: expected {} more bytes, found {}",
           shown(path_), n, bytes_.size());
    const std::string_view taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }
  // A count of things, which cannot be negative.
  size_t take_count() {
    int32_t value = 0;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    if (value < 0)
      fail(ErrorKind::bad_model, "{} is no importance matrix: it counts {} things", shown(path_), value);
    return static_cast<size_t>(value);
  }
  std::vector<float> take_floats(size_t n) {
    const std::string_view taken = take(n * sizeof(float));
    std::vector<float> values(n);
    if (n > 0) std::memcpy(values.data(), taken.data(), taken.size());  // no copy to or from nothing
    return values;
  }

 private:
  std::string_view bytes_;
  const fs::path& path_;
};

// Means over the rows that reached each matrix.
std::vector<float> means_of(std::string_view weight, const Tensor& sums, const Tensor* counts) {
  const bool is_sound = counts != nullptr && sums.dtype == Dtype::f32 && counts->dtype == Dtype::f32 &&
                        sums.n_dims >= 1 && counts->n_elems() == sums.n_rows();
  if (!is_sound)
    fail(ErrorKind::bad_model, "the importance of {} has no counts that fit its sums", printable(weight));
  std::vector<float> means(static_cast<size_t>(sums.n_elems()), 1.0f);
  const int64_t n_cols = sums.n_cols();
  for (int64_t i = 0; i < sums.n_elems(); ++i) {
    const float count = counts->f32()[i / n_cols];
    if (count > 0.0f) means[static_cast<size_t>(i)] = sums.f32()[i] / count;
  }
  return means;
}

template <class T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& out, std::string_view text) {
  put(out, static_cast<int32_t>(text.size()));
  out += text;
}

// How many chunks the matrix that saw most has seen, and the means times that; 1 where no row came.
void put_entry(std::string& out, const ColumnSums& sums, int64_t chunk_tokens) {
  const int64_t n_most = std::ranges::max(sums.counts), chunk = std::max<int64_t>(1, chunk_tokens);
  const auto n_calls = static_cast<int32_t>((n_most + chunk - 1) / chunk);
  put(out, n_calls);
  put(out, static_cast<int32_t>(sums.squares.size()));
  const size_t n_cols = sums.squares.size() / sums.counts.size();
  for (size_t i = 0; i < sums.squares.size(); ++i) {
    const auto count = static_cast<double>(sums.counts[i / n_cols]);
    put(out, static_cast<float>((count > 0 ? sums.squares[i] / count : 1.0) * n_calls));
  }
}

void write_dat(const fs::path& path, const MeasuredImportance& measured) {
  std::string out;
  put(out, static_cast<int32_t>(measured.weights.size()));
  for (const auto& [name, sums] : measured.weights) {
    put_text(out, name);
    put_entry(out, sums, measured.chunk_tokens);
  }
  put(out, static_cast<int32_t>(measured.n_chunks));
  put_text(out, measured.dataset);
  write_file_atomically(path, out);
}

}  // namespace

void write_importance(const fs::path& path, const MeasuredImportance& measured) {
  if (path.extension() == ".dat") return write_dat(path, measured);
  Metadata metadata;
  metadata.add("general.type", std::string_view("imatrix"));
  metadata.add("imatrix.datasets", std::vector<std::string_view>{measured.dataset});
  metadata.add("imatrix.chunk_count", measured.n_chunks);
  metadata.add("imatrix.chunk_size", measured.chunk_tokens);
  std::vector<NamedTensor> tensors;
  std::vector<std::vector<float>> elements;
  const auto add = [&](std::string name, const auto& values, int64_t n_matrices) {
    std::vector<float>& stored = elements.emplace_back(values.size());
    for (size_t i = 0; i < values.size(); ++i) stored[i] = static_cast<float>(values[i]);
    const int64_t n_cols = std::ssize(values) / n_matrices;
    tensors.push_back({std::move(name), Tensor(nullptr, Dtype::f32, {n_matrices, n_cols})});
  };
  for (const auto& [name, sums] : measured.weights) {
    add(name + std::string(kSums), sums.squares, std::ssize(sums.counts));
    add(name + std::string(kCounts), sums.counts, std::ssize(sums.counts));
  }
  const auto bytes_of = [&](size_t i) { return std::as_bytes(std::span(elements[i])); };
  write_gguf(path, {.metadata = metadata, .tensors = tensors, .bytes_of = bytes_of});
}

Importance::Importance(const fs::path& path) {
  if (is_gguf(path)) {
    read_gguf(path);
  } else {
    read_dat(path);
  }
  check_values();
}

std::span<const float> Importance::find(std::string_view weight) const {
  const auto at = weights_.find(weight);
  return at == weights_.end() ? std::span<const float>() : std::span<const float>(at->second);
}

void Importance::read_gguf(const fs::path& path) {
  const std::unique_ptr<Checkpoint> file = open_gguf(path);
  if (file->metadata().get_or<std::string_view>("general.type", "") != "imatrix")
    fail(ErrorKind::bad_model, "{} is a GGUF file, but no importance matrix: general.type is not imatrix",
         shown(path));
  n_chunks_ = file->metadata().get_or<int64_t>("imatrix.chunk_count", 0);
  const auto datasets = file->metadata().get_or<std::vector<std::string_view>>("imatrix.datasets", {});
  if (!datasets.empty()) dataset_ = datasets.front();
  for (const auto& [name, tensor] : file->tensors()) {
    if (!name.ends_with(kSums)) continue;
    const std::string weight = name.substr(0, name.size() - kSums.size());
    weights_[weight] = means_of(weight, tensor, file->find(weight + std::string(kCounts)));
  }
}

// Entries of a name, how often it was measured, and the means times that number; then, in newer files, the
// number of chunks and the name of the text.
void Importance::read_dat(const fs::path& path) {
  const std::string bytes = read_file(path, kMaxDatBytes);
  DatReader reader(bytes, path);
  const size_t n_entries = reader.take_count();
  for (size_t i = 0; i < n_entries; ++i) {
    const std::string name(reader.take(reader.take_count()));
    const size_t n_calls = reader.take_count();
    std::vector<float> values = reader.take_floats(reader.take_count());
    for (float& value : values) value = n_calls > 0 ? value / static_cast<float>(n_calls) : 1.0f;
    weights_[name] = std::move(values);
  }
  if (!reader.is_at_end()) n_chunks_ = static_cast<int64_t>(reader.take_count());
  if (!reader.is_at_end()) dataset_ = reader.take(reader.take_count());
}

void Importance::check_values() const {
  for (const auto& [name, values] : weights_) {
    for (const float value : values) {
      if (std::isfinite(value) && value >= 0.0f) continue;
      fail(ErrorKind::bad_model, "the importance of {} holds {}, expected numbers from 0 up", printable(name),
           value);
    }
  }
}

}  // namespace millrace
