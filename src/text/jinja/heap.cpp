#include "text/jinja/heap.h"

#include <algorithm>
#include <memory>

#include "text/jinja/error.h"

namespace millrace::jinja {

void Heap::adopt(Object* object) {
  std::unique_ptr<Object> owner(object);
  const size_t n_bytes = object->n_bytes();
  expect_room(n_bytes);
  owner.release();
  n_live_bytes_ += n_bytes;
  object->heap_ = this;
  if (lifetime_ == Lifetime::immortal) object->n_refs_ = Object::kImmortal;
  object->next_ = first_;
  if (first_ != nullptr) first_->previous_ = object;
  first_ = object;
}

void Heap::expect_room(size_t n_bytes) const {
  if (n_bytes > kMaxBytes || n_live_bytes_ + n_bytes > kMaxBytes) {
    raise("it needs more than the {} MiB of memory allowed", kMaxBytes >> 20);
  }
}

void Heap::unlink(Object* object) {
  (object->previous_ != nullptr ? object->previous_->next_ : first_) = object->next_;
  if (object->next_ != nullptr) object->next_->previous_ = object->previous_;
}

void Heap::bury(Object* object) {
  unlink(object);
  object->next_ = std::exchange(dead_, object);
  if (is_burying_) return;
  is_burying_ = true;
  while (dead_ != nullptr) {
    Object* next = std::exchange(dead_, dead_->next_);
    next->release_children();
    n_live_bytes_ -= next->n_bytes();
    delete next;
  }
  is_burying_ = false;
}

// What is left refers to itself, or is immortal: all are made immortal, so that none frees another twice.
Heap::~Heap() {
  for (Object* object = first_; object != nullptr; object = object->next_) {
    object->n_refs_ = Object::kImmortal;
  }
  for (Object* object = first_; object != nullptr; object = object->next_) object->release_children();
  while (first_ != nullptr) delete std::exchange(first_, first_->next_);
}

void Heap::look_at_budget() {
  next_look_ = n_steps_ + kStepsPerLook;
  if (n_steps_ > kMaxSteps) raise("it takes more than the {} steps allowed", kMaxSteps);
  if (std::chrono::steady_clock::now() - begin_ > kMaxTime) {
    raise("it takes more than the {} seconds allowed", kMaxTime.count());
  }
}

}  // namespace millrace::jinja
