// Which parts of a model a GPU computes and which the processor, planned before anything lies anywhere. Where
// not all fits, those leave the GPU first that gain least by it:
//
//   tables         of Embed: a token reads one row
//   experts        of the first layers, ascending: a token reads few of them
//   whole layers   the first ones, ascending, with their pages and states
//   the head       with the last layer
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backend/split/split.h"
#include "engine/engine.h"
#include "engine/runner.h"

namespace millrace {

struct OffloadWish {
  std::optional<int64_t> n_gpu_layers;  // the last ones, at most all; absent: as many as fit
  // The first ones, at most all, whose experts stay with the processor; absent: as few as fit, none where
  // n_gpu_layers is given.
  std::optional<int64_t> n_cpu_moe;
};

struct Offload {
  int64_t n_layers = 0, n_gpu_layers = 0;
  int64_t n_expert_layers = 0, n_gpu_expert_layers = 0;  // that have experts; of which those are on the GPU
  bool has_all = false;                                  // whether the GPU runs every op
  SplitPlaces places;
  MemoryPlan::Part on_device;
  int64_t free_bytes = 0;  // there

  int64_t n_bytes() const { return on_device.n_bytes(); }
  // What was decided, as a sentence.
  std::string text() const;
};

struct OffloadRoom {
  Backend& device;
  int64_t free_bytes;  // that may be taken of its memory
};

// The most that `wish` allows and that there is room for. Throws Error(does_not_fit) with the
// numbers where that is nothing, Error(usage) where it asks for experts of a model that has none.
Offload plan_offload(const Model& model, const Checkpoint& checkpoint, const RunnerShape& shape,
                     const OffloadWish& wish, const OffloadRoom& room);

// The backend that computes so, with the weights where they belong: `device`, what `make_processor` gives, or
// both as one. Throws Error(does_not_fit).
std::unique_ptr<Backend> place(const Offload& plan, std::unique_ptr<Backend> device,
                               const std::function<std::unique_ptr<Backend>()>& make_processor);

}  // namespace millrace
