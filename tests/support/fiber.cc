#include "tests/support/fiber.h"

#include <cstdlib>
#include <new>

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)  // GCC's name for it
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Pushes what a function must leave as it was, saves the stack pointer, takes the other one and
// pops the same from there.
extern "C" void RollcallSwitchStack(void** save, void* load);
asm(R"(
.text
.globl RollcallSwitchStack
.type RollcallSwitchStack, @function
RollcallSwitchStack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size RollcallSwitchStack, .-RollcallSwitchStack
)");
#endif

namespace rollcall {
namespace {

// What AddressSanitizer wants to know before and after a switch; without it nothing.
#if defined(__SANITIZE_ADDRESS__)
void BeforeSwitch(void** fake_stack, const void* bottom, size_t size) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
}
void AfterSwitch(void* fake_stack, const void** old_bottom, size_t* old_size) {
  __sanitizer_finish_switch_fiber(fake_stack, old_bottom, old_size);
}
#else
void BeforeSwitch(void**, const void*, size_t) {}
void AfterSwitch(void*, const void**, size_t*) {}
#endif

constexpr size_t kStackBytes = size_t{128} << 10;

// main has no arguments that a fresh stack could bring; the fiber that starts is told by this.
thread_local Fiber* starting = nullptr;

}  // namespace

struct Fiber::Context {
  std::byte* stack = nullptr;
#if defined(__x86_64__)
  void* inside = nullptr;  // stack pointers of the fiber and of who entered it
  void* outside = nullptr;
#else
  ucontext_t inside{};
  ucontext_t outside{};
#endif
  // For the sanitizer: the other side's stack.
  void* inside_fake = nullptr;
  void* outside_fake = nullptr;
  const void* outside_bottom = nullptr;
  size_t outside_size = 0;

  void SwitchIn() {
#if defined(__x86_64__)
    RollcallSwitchStack(&outside, inside);
#else
    swapcontext(&outside, &inside);
#endif
  }
  void SwitchOut() {
#if defined(__x86_64__)
    RollcallSwitchStack(&inside, outside);
#else
    swapcontext(&inside, &outside);
#endif
  }
};

Fiber::~Fiber() {
  if (context_ == nullptr) return;
  munmap(context_->stack, kStackBytes);
  delete context_;
}

void Fiber::Start(void (*main)(void*), void* argument) {
  if (context_ == nullptr) {
    void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    context_ = new Context();
    context_->stack = static_cast<std::byte*>(memory);
  }
  main_ = main;
  argument_ = argument;
  context_->inside_fake = nullptr;
  const auto entry = +[] { Main(starting); };
#if defined(__x86_64__)
  // Six registers, the address to return to, and no caller behind it. Main finds the stack as a
  // call would have left it: eight bytes off a multiple of sixteen.
  auto** top = reinterpret_cast<void**>(context_->stack + kStackBytes);
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(entry);
  for (int i = 3; i <= 8; ++i) top[-i] = nullptr;
  context_->inside = static_cast<void*>(top - 8);
#else
  getcontext(&context_->inside);
  context_->inside.uc_stack.ss_sp = context_->stack;
  context_->inside.uc_stack.ss_size = kStackBytes;
  context_->inside.uc_link = nullptr;
  makecontext(&context_->inside, entry, 0);
#endif
}

void Fiber::Main(Fiber* self) {
  Context* context = self->context_;
  AfterSwitch(nullptr, &context->outside_bottom, &context->outside_size);
  self->main_(self->argument_);
  // The last switch: the fiber's shadow stack goes with it.
  BeforeSwitch(nullptr, context->outside_bottom, context->outside_size);
  context->SwitchOut();
  std::abort();  // entered after its end
}

void Fiber::Enter() {
  starting = this;
  BeforeSwitch(&context_->outside_fake, context_->stack, kStackBytes);
  context_->SwitchIn();
  AfterSwitch(context_->outside_fake, nullptr, nullptr);
}

void Fiber::Leave() {
  BeforeSwitch(&context_->inside_fake, context_->outside_bottom, context_->outside_size);
  context_->SwitchOut();
  AfterSwitch(context_->inside_fake, &context_->outside_bottom, &context_->outside_size);
}

}  // namespace rollcall
