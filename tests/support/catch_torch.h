// For tests that see torch: torch's headers define a CHECK of their own, so they come first and
// theirs is taken away.
#pragma once

#include "services/model/tensor.h"

#undef CHECK
#undef CHECK_EQ
#undef CHECK_NE
#undef CHECK_LT
#undef CHECK_LE
#undef CHECK_GT
#undef CHECK_GE

#include "tests/support/catch.h"
