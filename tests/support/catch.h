// Catch2 2.13 (Debian 12) or 3.x (newer systems), whichever is installed.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif

#include "services/base/status/status.h"

// The value, or a failed test with the message.
#define REQUIRE_OK(expr)                                    \
  do {                                                      \
    const ::rollcall::Status rollcall_test_status = (expr); \
    INFO("status: " << rollcall_test_status.ToString());    \
    REQUIRE(rollcall_test_status.ok());                     \
  } while (false)
#define REQUIRE_OK_AND_ASSIGN(lhs, expr) \
  REQUIRE_OK_AND_ASSIGN_IMPL(ROLLCALL_CONCAT(rollcall_test_statusor_, __LINE__), lhs, expr)
#define REQUIRE_OK_AND_ASSIGN_IMPL(statusor, lhs, expr) \
  auto statusor = (expr);                               \
  REQUIRE_OK(statusor.status());                        \
  lhs = std::move(statusor).value()
