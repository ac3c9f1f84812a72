// How fast a text becomes ids on one thread, and how long a tokenizer takes to load.
//   tokenizer_bench TOKENIZER TEXT     a tokenizer.json or a GGUF file, and documents with NULs between them
// Prints one line of JSON; times are the median of the repetitions. tokenizer_vs_hf.py sets it beside the
// Hugging Face library.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "base/file.h"
#include "checkpoint/gguf.h"
#include "text/tokenizer.h"

namespace millrace {
namespace {

constexpr int kRepeat = 5;

double median_seconds(const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < kRepeat; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::sort(seconds);
  return seconds[kRepeat / 2];
}

std::vector<std::string_view> documents_of(std::string_view text) {
  std::vector<std::string_view> documents;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\0', at), text.size());
    documents.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return documents;
}

int run(const std::string& path, const std::string& text_path) {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  const double load_seconds = median_seconds([&] {
    tokenizer = nullptr;
    if (path.ends_with(".gguf")) {
      checkpoint = open_gguf(path);
      tokenizer = load_tokenizer(checkpoint->metadata());
    } else {
      tokenizer = load_tokenizer_json(Json::parse(read_file(path, size_t{1} << 30), path), Json());
    }
  });
  const std::string text = read_file(text_path, size_t{1} << 30);
  const auto documents = documents_of(text);
  size_t n_ids = 0;
  const double seconds = median_seconds([&] {
    n_ids = 0;
    for (const std::string_view document : documents) {
      n_ids += tokenizer->encode(document, {.add_special = false}).size();
    }
  });
  fmt::print("{{\"mb_per_second\":{:.2f},\"n_ids\":{},\"load_ms\":{:.2f}}}\n",
             static_cast<double>(text.size()) / seconds / 1e6, n_ids, load_seconds * 1e3);
  return 0;
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: tokenizer_bench TOKENIZER TEXT\n");
    return 2;
  }
  try {
    return millrace::run(argv[1], argv[2]);
  } catch (const millrace::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.kind());
  }
}
