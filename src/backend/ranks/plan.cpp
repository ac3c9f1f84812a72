#include "backend/ranks/plan.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "backend/ranks/sides.h"

namespace millrace::ranks {
namespace {

// Which of some numbers belong together.
class Sets {
 public:
  int add() {
    parents_.push_back(static_cast<int>(parents_.size()));
    return parents_.back();
  }
  int find(int i) {
    while (parents_[at(i)] != i) i = parents_[at(i)] = parents_[at(parents_[at(i)])];
    return i;
  }
  void join(int i, int j) { parents_[at(find(i))] = find(j); }

 private:
  static size_t at(int i) { return static_cast<size_t>(i); }
  std::vector<int> parents_;
};

// What lies at an address from one write to the next.
struct Value {
  int64_t period = 0;  // elements that a cut divides, again and again; 0: not known yet
  bool is_whole = false;
  bool is_read = false;
  bool is_of_product = false;  // of a Linear that has one
};

// How values are cut that are cut alike.
struct Kind {
  int64_t n_segments = 1;
  int64_t n_kv_heads = 0;  // 0: they are none
  // Whether there are more ranks than heads: then some ranks have the same one.
  bool is_shared(int n_ranks) const {
    return n_kv_heads > 0 && n_ranks > n_kv_heads && n_ranks % n_kv_heads == 0;
  }
};

// A dimension that is cut with the values of a stretch.
struct Member {
  int op = 0;
  int value = -1;         // any one of the stretch
  bool has_kind = false;  // of that value, else `kind`
  Kind kind;
  int64_t n_units = 0;
  int axis = 0;
  Tensor weight;                    // where it is one
  const std::byte* kept = nullptr;  // where layers keep it
};

struct Stretch {
  bool is_whole = false, is_result = false;
  int64_t n_units = 0;  // that all of its members can be cut into
  int64_t weight_bytes = 0;
  std::set<int> neighbours;  // of which none can be divided if this one is: inputs and outputs of a product
};

class Planner {
 public:
  Planner(const Recorded& recorded, int n_ranks) : recorded_(recorded), n_ranks_(n_ranks) {}

  Plan plan() {
    for (const Op& op : recorded_.ops) {
      Op copy = op;
      add(copy);
    }
    end_results();
    std::map<int, Stretch> all = measure();
    std::set<int> divided = choose(all);
    while (leave_conflicts(divided)) {
      all = measure();
      divided = choose(all);
    }
    return plan_of(all, divided);
  }

 private:
  Value& value(int i) { return values_[static_cast<size_t>(i)]; }
  Kind& kind_of_value(int i) { return kinds_[static_cast<size_t>(alike_.find(i))]; }
  const Kind& kind_of(const Member& member) {
    return member.has_kind ? kind_of_value(member.value) : member.kind;
  }
  int new_value() {
    values_.emplace_back();
    kinds_.emplace_back();
    alike_.add();
    return stretches_.add();
  }

  void add(Op& op);
  int read(const Tensor& tensor);
  int write(const Tensor& tensor);
  void add_side(const Side& side, const std::map<const Tensor*, int>& ids);
  void add_values(const Side& side, const std::map<const Tensor*, int>& ids);
  void join_alike(int i, int j);
  void end_results();
  std::map<int, Stretch> measure();
  void measure(const Member& member, Stretch& stretch);
  std::set<int> choose(const std::map<int, Stretch>& all) const;
  bool leave_conflicts(const std::set<int>& divided);
  Slices slices_of(const Member& member, int64_t n_units);
  Plan plan_of(const std::map<int, Stretch>& all, const std::set<int>& divided);

  const Recorded& recorded_;
  const int n_ranks_;
  std::vector<Value> values_;
  std::vector<Kind> kinds_;                                   // by the first of values that are cut alike
  Sets stretches_, alike_;                                    // of values
  std::map<const std::byte*, std::pair<int64_t, int>> live_;  // bytes and value, by where they begin
  std::vector<Member> members_;
  int n_ops_ = 0;
  std::vector<std::pair<int, int>> inputs_and_outputs_;  // of products
  std::map<const std::byte*, Tensor> whole_;             // weights of ops that cannot be cut
};

// By numbers: the recorded addresses begin at nullptr, which no pointer may be counted from.
bool overlap(const std::byte* begin, int64_t n_bytes, const Tensor& tensor) {
  const auto a = reinterpret_cast<uintptr_t>(begin), b = reinterpret_cast<uintptr_t>(tensor.data);
  return a < b + static_cast<uintptr_t>(tensor.n_bytes()) && b < a + static_cast<uintptr_t>(n_bytes);
}

// An operand that is not exactly one value is a part of some, or parts of several: those stay whole.
int Planner::read(const Tensor& tensor) {
  const auto found = live_.find(tensor.data);
  if (found != live_.end() && found->second.first == tensor.n_bytes()) {
    value(found->second.second).is_read = true;
    return found->second.second;
  }
  const int id = new_value();
  value(id).is_read = true;
  if (recorded_.kept.contains(tensor.data)) {
    live_[tensor.data] = {tensor.n_bytes(), id};
    return id;
  }
  for (const auto& [begin, live] : live_) {
    if (overlap(begin, live.first, tensor)) value(live.second).is_read = value(live.second).is_whole = true;
  }
  value(id).is_whole = true;
  return id;
}

int Planner::write(const Tensor& tensor) {
  std::erase_if(live_, [&](const auto& each) { return overlap(each.first, each.second.first, tensor); });
  const int id = new_value();
  live_[tensor.data] = {tensor.n_bytes(), id};
  return id;
}

void Planner::add(Op& op) {
  ++n_ops_;
  std::map<const Tensor*, int> ids;
  const std::vector<Operand> operands = operands_of(op);
  for (const bool is_written : {false, true}) {
    for (const Operand& operand : operands) {
      if (operand.extent == Extent::model || operand.tensor->n_bytes() == 0) continue;
      if ((operand.access == Access::write) == is_written)
        ids[operand.tensor] = is_written ? write(*operand.tensor) : read(*operand.tensor);
    }
  }
  std::set<const Tensor*> can_be_cut;
  for (const Side& side : sides_of(op)) {
    for (const CutOperand& operand : side.operands) can_be_cut.insert(operand.tensor);
    add_side(side, ids);
  }
  for (const Operand& operand : operands) {
    if (can_be_cut.contains(operand.tensor)) continue;
    if (operand.extent == Extent::model) {
      whole_[operand.tensor->data] = *operand.tensor;
    } else if (ids.contains(operand.tensor)) {
      value(ids.at(operand.tensor)).is_whole = true;
    }
  }
  const auto* linear = std::get_if<Linear>(&op);
  for (int i = 0; linear != nullptr && i < linear->n_products; ++i) {
    const int out = ids.at(&linear->products[i].out);
    value(out).is_of_product = linear->n_products == 1;
    inputs_and_outputs_.emplace_back(ids.at(&linear->x), out);
  }
}

void Planner::join_alike(int i, int j) {
  const Kind a = kind_of_value(i), b = kind_of_value(j);
  const auto differ = [](int64_t x, int64_t y, int64_t none) { return x != none && y != none && x != y; };
  value(i).is_whole |= differ(a.n_segments, b.n_segments, 1) || differ(a.n_kv_heads, b.n_kv_heads, 0);
  alike_.join(i, j);
  kind_of_value(j) = {std::max(a.n_segments, b.n_segments), std::max(a.n_kv_heads, b.n_kv_heads)};
}

// The values of a side are one stretch, those of a group are cut alike.
void Planner::add_values(const Side& side, const std::map<const Tensor*, int>& ids) {
  int first = -1;
  std::array<int, 2> first_of_group{-1, -1};
  for (const CutOperand& operand : side.operands) {
    if (operand.extent == Extent::model) continue;
    const int id = ids.at(operand.tensor);
    if (operand.extent == Extent::rows) {
      int64_t period = operand.tensor->n_elems();
      for (int i = 0; i < operand.axis; ++i) period /= operand.tensor->dim(i);
      value(id).is_whole |= value(id).period != 0 && value(id).period != period;
      value(id).period = period;
    }
    if (first >= 0) stretches_.join(id, first);
    first = id;
    int& of_group = first_of_group[static_cast<size_t>(operand.group)];
    if (of_group >= 0) join_alike(id, of_group);
    of_group = id;
  }
  if (const int id = first_of_group[1]; id >= 0) {
    const int other = new_value();  // that has the kind of the group
    kinds_[static_cast<size_t>(other)] = {side.n_segments, side.n_kv_heads};
    stretches_.join(other, id);
    value(other).is_read = true;
    join_alike(other, id);
  }
}

void Planner::add_side(const Side& side, const std::map<const Tensor*, int>& ids) {
  add_values(side, ids);
  for (const CutOperand& operand : side.operands) {
    const auto is_of_group = [&](const CutOperand& other) {
      return other.extent != Extent::model && other.group == operand.group;
    };
    const auto is_value = [](const CutOperand& other) { return other.extent != Extent::model; };
    auto like = std::ranges::find_if(side.operands, is_of_group);
    const bool has_kind = like != side.operands.end();
    if (!has_kind) like = std::ranges::find_if(side.operands, is_value);
    members_.push_back({.op = n_ops_,
                        .value = ids.at(like->tensor),
                        .has_kind = has_kind,
                        .kind = {side.n_segments, 0},
                        .n_units = operand.n_units,
                        .axis = operand.axis,
                        .weight = operand.extent == Extent::model ? *operand.tensor : Tensor(),
                        .kept = operand.extent == Extent::whole ? operand.tensor->data : nullptr});
  }
}

// What nobody reads is what the forward gives.
void Planner::end_results() {
  for (Value& each : values_) each.is_whole |= !each.is_read && !each.is_of_product;
}

void Planner::measure(const Member& member, Stretch& stretch) {
  if (member.weight) stretch.weight_bytes += member.weight.n_bytes();
  const Kind& kind = kind_of(member);
  const int64_t n_units = member.n_units % kind.n_segments == 0 ? member.n_units / kind.n_segments : 1;
  if (!kind.is_shared(n_ranks_)) stretch.n_units = std::gcd(stretch.n_units, n_units);
}

std::map<int, Stretch> Planner::measure() {
  std::map<int, Stretch> all;
  std::map<int, int> n_values;
  for (int i = 0; i < static_cast<int>(values_.size()); ++i) {
    Stretch& stretch = all[stretches_.find(i)];
    stretch.is_whole |= value(i).is_whole;
    stretch.is_result |= !value(i).is_read;
    ++n_values[stretches_.find(i)];
  }
  for (const Member& member : members_) measure(member, all[stretches_.find(member.value)]);
  for (const Member& member : members_) {  // a rank's queries are those of its heads
    Stretch& stretch = all[stretches_.find(member.value)];
    const Kind& kind = kind_of(member);
    if (kind.is_shared(n_ranks_) && stretch.n_units % kind.n_kv_heads != 0) stretch.n_units = 1;
  }
  for (const auto& [x, out] : inputs_and_outputs_) {
    const int from = stretches_.find(x), to = stretches_.find(out);
    all[from].neighbours.insert(to);
    all[to].neighbours.insert(from);
  }
  for (auto& [root, stretch] : all)
    stretch.is_whole |= stretch.neighbours.contains(root) || (stretch.is_result && n_values[root] > 1);
  return all;
}

// Those with the most weights first.
std::set<int> Planner::choose(const std::map<int, Stretch>& all) const {
  std::vector<int> order;
  for (const auto& [root, stretch] : all) {
    if (!stretch.is_whole && stretch.weight_bytes > 0 && stretch.n_units >= n_ranks_) order.push_back(root);
  }
  std::ranges::stable_sort(order, std::greater(), [&](int root) { return all.at(root).weight_bytes; });
  std::set<int> divided;
  for (const int root : order) {
    if (std::ranges::none_of(all.at(root).neighbours, [&](int other) { return divided.contains(other); }))
      divided.insert(root);
  }
  return divided;
}

// A weight is cut in one way by all ops that can cut it: else its stretches stay whole, which returns true.
bool Planner::leave_conflicts(const std::set<int>& divided) {
  struct Use {
    Tensor weight;
    int axis = -1;  // that is cut; -1: none
    std::vector<int> values;
  };
  std::map<std::pair<const std::byte*, int>, Use> uses;  // by weight and op
  for (const Member& member : members_) {
    if (!member.weight) continue;
    Use& use = uses[{member.weight.data, member.op}];
    use.weight = member.weight;
    use.values.push_back(member.value);
    if (divided.contains(stretches_.find(member.value))) use.axis = member.axis;
  }
  bool has_some = false;
  const Use* last = nullptr;
  for (const auto& [key, use] : uses) {
    const Use* const before = std::exchange(last, &use);
    if (before == nullptr || before->weight.data != use.weight.data) continue;
    if (before->axis == use.axis && before->weight.shape == use.weight.shape) continue;
    for (const Use* each : {before, &use}) {
      for (const int id : each->values) {
        if (!divided.contains(stretches_.find(id))) continue;
        value(id).is_whole = has_some = true;
      }
    }
  }
  return has_some;
}

Slices Planner::slices_of(const Member& member, int64_t n_units) {
  const Kind& kind = kind_of(member);
  const bool is_shared = kind.is_shared(n_ranks_);
  Slices slices{.n_segments = kind.n_segments, .n_units = is_shared ? kind.n_kv_heads : n_units, .runs = {}};
  for (int64_t rank = 0; rank < n_ranks_; ++rank) {
    const int64_t begin = n_units * rank / n_ranks_, end = n_units * (rank + 1) / n_ranks_;
    slices.runs.push_back(is_shared ? Slices::Run{begin * kind.n_kv_heads / n_units,
                                                  (end * kind.n_kv_heads + n_units - 1) / n_units}
                                    : Slices::Run{begin, end});
  }
  return slices;
}

Plan Planner::plan_of(const std::map<int, Stretch>& all, const std::set<int>& divided) {
  Plan plan{.n_ranks = n_ranks_, .weights = {}, .whole = whole_, .kept = {}};
  for (const Member& member : members_) {
    const int root = stretches_.find(member.value);
    if (!divided.contains(root)) continue;
    const Cut cut{slices_of(member, all.at(root).n_units), member.axis};
    if (member.weight) plan.weights[member.weight.data] = {member.weight, cut, all.at(root).is_result};
    if (member.kept != nullptr) plan.kept[recorded_.kept.at(member.kept)] = cut;
  }
  for (const Member& member : members_) {
    if (member.weight && !plan.weights.contains(member.weight.data))
      plan.whole[member.weight.data] = member.weight;
  }
  for (const auto& [root, stretch] : all) {
    if (stretch.is_whole || divided.contains(root) || stretch.n_units >= n_ranks_) continue;
    plan.n_undivided_bytes += stretch.weight_bytes;
    plan.n_parts = std::max(plan.n_parts, stretch.n_units);
  }
  return plan;
}

}  // namespace

Plan plan_ranks(const Recorded& recorded, int n_ranks) { return Planner(recorded, n_ranks).plan(); }

}  // namespace millrace::ranks
