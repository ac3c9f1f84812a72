// Several backends as one: tensor parallel. Each is a rank, on a thread of its own, with a part of the
// weights, of what layers keep, and of the heads and columns between them; all run the same ops in the same
// order (docs/adr/0013-tensor-parallel.md).
//
//   an op of which the plan cuts a weight, or that reads what is cut     each rank its part
//   a product whose inputs are cut                                       and the results are summed
//   the product that gives the result                                    and the columns are put together
//   any other op                                                         whole, on every rank
//
// Sums are in the order of the ranks, whatever the rows: the bits belong to the number of ranks.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/ranks/collective.h"
#include "backend/ranks/plan.h"

namespace millrace {

// Gives back the memory of a weight that is read no more, since all of its parts are copies. False where that
// cannot be.
using GiveBack = std::function<bool(std::span<const std::byte> weight)>;

// The ranks are of one kind, and one each of plan.n_ranks. Throws Error(runtime) where they do not hear from
// each other. hold() brings them their parts, which the plan says; in the program's memory the bytes held are
// those in place of what was given back.
std::unique_ptr<Backend> make_ranks_backend(std::vector<std::unique_ptr<Backend>> ranks, ranks::Plan plan,
                                            std::unique_ptr<Collective> collective, GiveBack give_back = {});

}  // namespace millrace
