// From a model and the options of an engine to what bounds its steps and the memory it takes.
#pragma once

#include "engine/cache_tier.h"
#include "engine/engine.h"
#include "engine/runner.h"

namespace millrace {

// The options with their defaults filled in. Throws Error(usage) for values that make no sense.
Engine::Options filled_in(const Model& model, Engine::Options options);

// What an engine with those options computes with, on `backend` where it is given.
RunnerShape runner_shape(const Model& model, const Engine::Options& options,
                         const Backend* backend = nullptr);

// All of the following take options that are filled in.
// Without what rows that fill recorded steps up have where no backend is given.
SequenceMemory::Shape memory_shape(const Model& model, const Engine::Options& options,
                                   const Backend* backend = nullptr);
BatchLimits batch_limits(const Model& model, const Engine::Options& options);
bool keeps_sequences_whole(const Model& model, const Engine::Options& options);
// nullptr where there is none.
std::unique_ptr<CacheTier> make_tier(const Model& model, Backend& backend, const Engine::Options& options,
                                     const SequenceMemory& memory);
// Without what ops take besides where no backend is given.
MemoryPlan plan_for(const Model& model, const Engine::Options& options, Backend* backend = nullptr);
// Throws Error(does_not_fit) with the numbers when the plan exceeds the memory that is there for `backend`.
MemoryPlan fitting_plan(const Model& model, Backend& backend, const Engine::Options& options);

}  // namespace millrace
