// Memory and work of one render. A template is a program that came with the model, so every value it makes is
// counted here and every step it takes is charged here; what exceeds the budget ends in one sentence.
//
//   Object   counted by reference, not atomically: a render has one thread. Objects of a compiled template
//   are
//            immortal instead: many renders read them at once and none writes their count.
//   Heap     owns all objects of a render. Cycles (a namespace that holds itself) die with it at the latest.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace millrace::jinja {

class Heap;

class Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;

  // Lets go of every object this one refers to. Called before it is deleted, so that a chain of any length is
  // freed without recursion.
  virtual void release_children() {}
  virtual size_t n_bytes() const = 0;  // fixed from creation on

  void retain() {
    if (n_refs_ != kImmortal) ++n_refs_;
  }
  void release();

 private:
  friend class Heap;
  static constexpr uint32_t kImmortal = UINT32_MAX;

  Heap* heap_ = nullptr;
  Object* next_ = nullptr;
  Object* previous_ = nullptr;
  uint32_t n_refs_ = 0;
};

// Owns one reference to a T.
template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* object) : object_(object) {
    if (object_ != nullptr) object_->retain();
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr) object_->release();
  }
  void reset() { *this = Ref(); }

  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

class Heap {
 public:
  enum class Lifetime { counted, immortal };

  explicit Heap(Lifetime lifetime) : lifetime_(lifetime) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap();

  // Throws RenderError when the live objects would exceed the memory budget.
  template <class T, class... Args>
  T* make(Args&&... args) {
    T* object = new T(std::forward<Args>(args)...);
    adopt(object);
    return object;
  }

  // Refuses a value of that size before it is built.
  void expect_room(size_t n_bytes) const;
  // Charges a step of the template, or `n` of them. Throws RenderError when steps or time are spent.
  void step(uint64_t n = 1) {
    n_steps_ += n;
    if (n_steps_ >= next_look_) look_at_budget();
  }
  // Charges work that reads or writes so many bytes.
  void step_bytes(size_t n_bytes) { step(n_bytes / kBytesPerStep); }

 private:
  friend class Object;
  static constexpr size_t kMaxBytes = size_t{256} << 20;
  static constexpr uint64_t kMaxSteps = 5'000'000;
  static constexpr size_t kBytesPerStep = 64;
  static constexpr uint64_t kStepsPerLook = 4096;  // the clock is read this often
  static constexpr std::chrono::seconds kMaxTime{10};

  void adopt(Object* object);
  void unlink(Object* object);
  void bury(Object* object);
  void look_at_budget();

  Lifetime lifetime_;
  Object* first_ = nullptr;
  Object* dead_ = nullptr;  // waiting to be freed, linked by next_
  bool is_burying_ = false;
  size_t n_live_bytes_ = 0;
  uint64_t n_steps_ = 0;
  uint64_t next_look_ = kStepsPerLook;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

inline void Object::release() {
  if (n_refs_ != kImmortal && --n_refs_ == 0) heap_->bury(this);
}

}  // namespace millrace::jinja
