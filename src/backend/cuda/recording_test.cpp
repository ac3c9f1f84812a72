// What the emulated device records: kernels with the arguments that they had, on whatever lies there by then.
#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "tensor/buffer.h"

namespace millrace {
namespace {

constexpr int64_t kCols = 8;

class Recordings : public ::testing::Test {
 protected:
  void write(const Tensor& tensor, const std::vector<float>& values) {
    backend_->memory().write(tensor.data, std::as_bytes(std::span(values)));
  }
  std::vector<float> read(const Tensor& tensor) {
    std::vector<float> values(static_cast<size_t>(tensor.n_elems()));
    backend_->memory().read(tensor.data, std::as_writable_bytes(std::span(values)));
    return values;
  }
  Tensor tensor(int64_t n_rows, int64_t n_cols) {
    Buffer& buffer =
        buffers_.emplace_back(static_cast<size_t>(n_rows * n_cols) * sizeof(float), backend_->memory());
    return {buffer.data(), Dtype::f32, {n_rows, n_cols}};
  }

  std::unique_ptr<Backend> backend_ = make_emulated_cuda_backend(EmulatedThreads::ascending);
  std::vector<Buffer> buffers_;
};

TEST_F(Recordings, RunOnWhatLiesThere) {
  ASSERT_TRUE(backend_->can_record());
  const Tensor x = tensor(1, kCols), y = tensor(1, kCols);
  write(y, std::vector<float>(kCols, 1.0f));
  const auto recording = backend_->record([&] {
    Add add{.x = x, .y = y, .y_scale = 2.0f};
    backend_->run(add);
    add.y_scale = 100.0f;  // it has been given already
  });
  EXPECT_EQ(read(x), std::vector<float>(kCols, 0.0f));  // nothing has run
  EXPECT_TRUE(recording->run());
  EXPECT_EQ(read(x), std::vector<float>(kCols, 2.0f));
  write(y, std::vector<float>(kCols, 10.0f));
  EXPECT_TRUE(recording->run());
  EXPECT_EQ(read(x), std::vector<float>(kCols, 22.0f));
}

// Its kernels name scratch memory, which another op has made lie somewhere else since.
TEST_F(Recordings, DoNotRunWhereTheirScratchWas) {
  const auto expand = [this](int64_t n_cols) {
    const Tensor comb = tensor(1, 4), x = tensor(1, 2 * n_cols);
    return HyperExpand{.x = x.reshaped({1, 2, n_cols}),
                       .branch = tensor(1, n_cols),
                       .post = tensor(1, 2),
                       .comb = comb.reshaped({1, 2, 2})};
  };
  const Op small = expand(kCols), large = expand(1000);
  backend_->run(small);
  const auto recording = backend_->record([&] { backend_->run(small); });
  EXPECT_TRUE(recording->run());
  backend_->run(large);
  EXPECT_FALSE(recording->run());
  const auto again = backend_->record([&] { backend_->run(small); });
  EXPECT_TRUE(again->run());
}

TEST_F(Recordings, OfWhatThrowsAreNone) {
  EXPECT_THROW(backend_->record([] { fail(ErrorKind::runtime, "no"); }), Error);
  const Tensor x = tensor(1, kCols);
  write(x, std::vector<float>(kCols, 3.0f));
  backend_->run(Add{.x = x, .y = x});  // runs at once again
  EXPECT_EQ(read(x), std::vector<float>(kCols, 6.0f));
}

}  // namespace
}  // namespace millrace
