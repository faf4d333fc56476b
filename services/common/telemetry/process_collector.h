// Metrics of the process itself, read from /proc at every scrape.
#pragma once

#include <memory>

#include <prometheus/collectable.h>

namespace rollcall {

// process_start_time_seconds, process_resident_memory_bytes, process_cpu_seconds_total,
// process_open_fds. A value that cannot be read is left out of that scrape.
std::shared_ptr<prometheus::Collectable> MakeProcessCollector();

}  // namespace rollcall
