#include "backend/backend.h"
#include "backend/op_shapes.h"
#include "backend/reference/compute.h"

namespace millrace {
namespace {

class ReferenceBackend final : public Backend {
 public:
  std::string_view name() const override { return "reference"; }
  void run(const Op& op) override {
    check_shapes(op);
    std::visit([](const auto& each) { reference::compute(each); }, op);
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace millrace
