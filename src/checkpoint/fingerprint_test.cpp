#include "checkpoint/fingerprint.h"

#include <gtest/gtest.h>

#include "base/temporary_folder.h"

namespace millrace {
namespace {

class OneTensor final : public Checkpoint {
 public:
  explicit OneTensor(int64_t n_heads = 8) {
    metadata_.add("heads", n_heads);
    metadata_.add("tokens", std::vector<std::string_view>{"a", "b"});
  }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const NamedTensor> tensors() const override { return tensors_; }
  const Tensor* find(std::string_view) const override { return nullptr; }

  std::vector<float> weights_ = std::vector<float>(10000, 1.0f);
  std::vector<NamedTensor> tensors_{
      {"w", Tensor(reinterpret_cast<std::byte*>(weights_.data()), Dtype::f32, {100, 100})}};

 private:
  Metadata metadata_;
};

TEST(Fingerprint, TellsWhatBitsDependOn) {
  const TemporaryFolder folder;
  const auto path = folder.write("model.gguf", "x");
  const std::string first = fingerprint_of(OneTensor(), path);
  EXPECT_EQ(fingerprint_of(OneTensor(), path), first);
  EXPECT_NE(fingerprint_of(OneTensor(4), path), first) << "a hyperparameter";
  for (const size_t i : {0, 5000, 9999}) {
    OneTensor other;
    other.weights_[i] = 2.0f;
    EXPECT_NE(fingerprint_of(other, path), first) << "weight " << i;
  }
  OneTensor renamed, reshaped;
  renamed.tensors_[0].name = "v";
  EXPECT_NE(fingerprint_of(renamed, path), first);
  reshaped.tensors_[0].tensor = reshaped.tensors_[0].tensor.reshaped({50, 200});
  EXPECT_NE(fingerprint_of(reshaped, path), first);
  std::filesystem::last_write_time(path,
                                   std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_NE(fingerprint_of(OneTensor(), path), first) << "a file that was written again";
}

TEST(Fingerprint, OfAFolderKnowsItsFiles) {
  const TemporaryFolder folder;
  folder.write("a.safetensors", "x");
  const std::string first = fingerprint_of(OneTensor(), folder.path());
  EXPECT_EQ(fingerprint_of(OneTensor(), folder.path()), first);
  folder.write("b.safetensors", "y");
  EXPECT_NE(fingerprint_of(OneTensor(), folder.path()), first);
}

}  // namespace
}  // namespace millrace
