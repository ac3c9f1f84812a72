#include "backend/tools/op_table.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace millrace {
namespace {

double per_second(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

OpTotals& operator+=(OpTotals& sum, const OpTotals& other) {
  sum.n_ops += other.n_ops;
  sum.cost += other.cost;
  sum.seconds += other.seconds;
  return sum;
}

std::string line(std::string_view name, const OpTotals& of, double all_seconds) {
  return fmt::format("{:<16}{:>8}{:>12.3f}{:>7.1f}%{:>12.1f}{:>9.1f}{:>10.1f}\n", name, of.n_ops,
                     of.seconds * 1e3, 100 * per_second(of.seconds, all_seconds),
                     static_cast<double>(of.cost.read_bytes + of.cost.written_bytes) / 1e6,
                     of.gb_per_second(), of.gflops_per_second());
}

Json object(const OpTotals& of) {
  return Json::Object{{"n_ops", of.n_ops},
                      {"seconds", of.seconds},
                      {"read_bytes", of.cost.read_bytes},
                      {"written_bytes", of.cost.written_bytes},
                      {"flops", of.cost.flops},
                      {"gb_per_second", of.gb_per_second()},
                      {"gflops_per_second", of.gflops_per_second()}};
}

}  // namespace

double OpTotals::gb_per_second() const {
  return per_second(static_cast<double>(cost.read_bytes + cost.written_bytes) / 1e9, seconds);
}

double OpTotals::gflops_per_second() const {
  return per_second(static_cast<double>(cost.flops) / 1e9, seconds);
}

void OpTable::add(const Op& op, const OpCost& cost, double seconds) {
  totals_[op.index()] += {.n_ops = 1, .cost = cost, .seconds = seconds};
}

const OpTotals& OpTable::of(std::string_view name) const {
  for (size_t i = 0; i < kNOps; ++i) {
    if (name_of_op(i) == name) return totals_[i];
  }
  check(false, "an op that is not there");
  return totals_[0];
}

OpTotals OpTable::total() const {
  OpTotals sum;
  for (const OpTotals& each : totals_) sum += each;
  return sum;
}

std::string OpTable::text() const {
  std::vector<size_t> order(kNOps);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order,
                           [&](size_t a, size_t b) { return totals_[a].seconds > totals_[b].seconds; });
  const OpTotals all = total();
  std::string text = fmt::format("{:<16}{:>8}{:>12}{:>8}{:>12}{:>9}{:>10}\n", "op", "count", "ms", "time",
                                 "MB", "GB/s", "GFLOP/s");
  for (const size_t i : order) {
    if (totals_[i].n_ops > 0) text += line(name_of_op(i), totals_[i], all.seconds);
  }
  return text + line("total", all, all.seconds);
}

Json OpTable::json() const {
  Json::Object members;
  for (size_t i = 0; i < kNOps; ++i) {
    if (totals_[i].n_ops > 0) members.emplace_back(name_of_op(i), object(totals_[i]));
  }
  members.emplace_back("total", object(total()));
  return members;
}

}  // namespace millrace
