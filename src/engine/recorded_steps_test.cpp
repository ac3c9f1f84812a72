// Which steps are run, recorded, run again and forgotten. With devices: tests/recorded_steps_test.cpp.
#include "engine/recorded_steps.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace millrace {
namespace {

// Writes down what is done, by the number of the shape in hand.
class Log final : public Backend {
 public:
  std::string_view name() const override { return "log"; }
  void run(const Op&) override {}
  bool can_record() const override { return true; }
  std::unique_ptr<Recording> record(const std::function<void()>& ops) override {
    text += 'r';
    if (is_full) fail(ErrorKind::does_not_fit, "no room for a graph");
    ops();
    return std::make_unique<Entry>(*this);
  }

  std::string text;
  bool is_full = false;
  bool is_moved = false;  // what was recorded until now cannot be run

 private:
  class Entry final : public Recording {
   public:
    explicit Entry(Log& log) : log_(log) { log.is_moved = false; }
    bool run() override {
      log_.text += log_.is_moved ? '-' : '+';
      return !log_.is_moved;
    }

   private:
    Log& log_;
  };
};

class Steps {
 public:
  explicit Steps(size_t n_most) : steps_(log_, n_most) {}

  // What running that shape has done.
  std::string run(int64_t n_rows) {
    log_.text.clear();
    const Tensor result = steps_.run({n_rows, 1}, [&] {
      log_.text += 'f';
      return Tensor(nullptr, Dtype::f32, {n_rows, 7});
    });
    EXPECT_EQ(result.dim(0), n_rows);
    return log_.text;
  }
  void move() { log_.is_moved = true; }
  void fill() { log_.is_full = true; }

 private:
  Log log_;
  RecordedSteps steps_;
};

TEST(RecordedSteps, AreRecordedTheSecondTime) {
  Steps steps(8);
  EXPECT_EQ(steps.run(1), "f");
  EXPECT_EQ(steps.run(2), "f");
  EXPECT_EQ(steps.run(1), "rf+");
  EXPECT_EQ(steps.run(1), "+");
  EXPECT_EQ(steps.run(2), "rf+");
  EXPECT_EQ(steps.run(1), "+");
}

TEST(RecordedSteps, AreRecordedAgainWhereTheyCannotBeRun) {
  Steps steps(8);
  steps.run(1);
  steps.run(1);
  steps.move();
  EXPECT_EQ(steps.run(1), "-rf+");
  EXPECT_EQ(steps.run(1), "+");
}

TEST(RecordedSteps, OfTooManyTheOldestGoes) {
  Steps steps(2);
  for (const int64_t n_rows : {1, 1, 2, 2, 1, 3}) steps.run(n_rows);
  EXPECT_EQ(steps.run(1), "+");
  EXPECT_EQ(steps.run(2), "f");
  EXPECT_EQ(steps.run(3), "f");
}

TEST(StepShape, HoldsAFewMoreRowsAndPages) {
  const auto rows = [](int64_t n, int64_t most) { return StepShape::holding({n, 1}, {most, 1}).n_rows; };
  EXPECT_EQ(rows(1, 256), 1);
  EXPECT_EQ(rows(3, 256), 4);
  EXPECT_EQ(rows(17, 256), 32);
  EXPECT_EQ(rows(33, 256), 64);
  EXPECT_EQ(rows(129, 256), 160);
  EXPECT_EQ(rows(3, 3), 3);
  EXPECT_EQ(StepShape::holding({1, 5}, {1, 100}).n_pages, 8);
  EXPECT_EQ(StepShape::holding({1, 65}, {1, 100}).n_pages, 100);
}

// The step comes all the same, and nobody tries again.
TEST(RecordedSteps, GoOnWhereNothingCanBeRecorded) {
  Steps steps(2);
  EXPECT_EQ(steps.run(1), "f");
  steps.fill();
  EXPECT_EQ(steps.run(1), "rf");
  EXPECT_EQ(steps.run(1), "f");
}

}  // namespace
}  // namespace millrace
