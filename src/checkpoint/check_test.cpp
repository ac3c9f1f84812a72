#include "checkpoint/check.h"

#include <gtest/gtest.h>

#include <limits>

#include "checkpoint/listed_checkpoint.h"

namespace millrace {
namespace {

class TensorsOnly final : public ListedCheckpoint {
 public:
  explicit TensorsOnly(std::vector<NamedTensor> tensors) : ListedCheckpoint(std::move(tensors)) {}
  const Metadata& metadata() const override { return metadata_; }

 private:
  Metadata metadata_;
};

TEST(CheckWeights, NamesTensorAndRow) {
  std::vector<float> values(12, 1.0f);
  const TensorsOnly checkpoint(
      {{"fine", Tensor(values.data(), Dtype::f32, {2})}, {"w", Tensor(values.data(), Dtype::f32, {3, 4})}});
  EXPECT_NO_THROW(check_weights(checkpoint, {}));
  values[9] = std::numeric_limits<float>::quiet_NaN();
  try {
    check_weights(checkpoint, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    EXPECT_STREQ(error.what(), "tensor \"w\" (F32) holds a NaN or an infinity in row 2");
  }
}

TEST(CheckWeights, FindsABlockScaleBehindManyRows) {
  const int64_t n_rows = 300'000;  // more than one step
  std::vector<std::byte> blocks(n_rows * 34);
  const TensorsOnly checkpoint({{"w", Tensor(blocks.data(), Dtype::q8_0, {n_rows, 32})}});
  EXPECT_NO_THROW(check_weights(checkpoint, {}));
  blocks[(n_rows - 1) * 34 + 1] = std::byte{0x7c};  // the scale becomes infinite
  try {
    check_weights(checkpoint, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("row 299999"), std::string::npos) << error.what();
  }
}

TEST(CheckWeights, TellsItsProgress) {
  std::vector<float> values(12, 1.0f);
  const TensorsOnly checkpoint({{"a", Tensor(values.data(), Dtype::f32, {2})},
                                {"none", Tensor(values.data(), Dtype::f32, {0, 4})},
                                {"b", Tensor(values.data(), Dtype::f32, {3, 4})}});
  std::vector<int64_t> done;
  check_weights(checkpoint, [&done](int64_t n_done, int64_t n_total) {
    EXPECT_EQ(n_total, 56);
    done.push_back(n_done);
  });
  EXPECT_EQ(done, (std::vector<int64_t>{8, 56}));
}

}  // namespace
}  // namespace millrace
