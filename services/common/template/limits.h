// What a template may use. Templates come with models from anywhere, so every one of these is
// enforced, and reaching one is an error that names the limit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rollcall {

struct TemplateLimits {
  size_t max_template_bytes = size_t{1} << 20;
  size_t max_input_bytes = size_t{64} << 20;   // each of messages, tools and variables, as JSON
  size_t max_string_bytes = size_t{64} << 20;  // any one string, the output among them
  size_t max_live_bytes = size_t{512} << 20;   // all values of one rendering together
  int64_t max_steps = 50'000'000;              // nodes evaluated, items visited, 64 bytes copied
  int64_t max_range = 100'000;                 // items of range(), as jinja2's sandbox
  int max_syntax_depth = 200;                  // nested expressions and blocks of the source
  int max_eval_depth = 500;                    // nested evaluation, recursive macros among them
  int max_value_depth = 100;  // nested lists and dicts of the input; a template makes up to twice
};

}  // namespace rollcall
