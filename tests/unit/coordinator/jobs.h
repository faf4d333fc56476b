// A small job for tests of the core: two prompts a step, one learner, nothing on disk.
#pragma once

#include <memory>
#include <string>

#include "rollcall/v1/job.pb.h"
#include "services/coordinator/job/prepared_job.h"
#include "services/coordinator/journal/records.h"

namespace rollcall::testing {

inline v1::JobSpec SmallJobSpec() {
  v1::JobSpec spec;
  spec.mutable_run()->set_name("small");
  spec.mutable_data()->set_kind(v1::DataSpec::PROMPTS);
  spec.mutable_rollout()->set_samples_per_prompt(2);
  spec.mutable_rollout()->set_max_new_tokens(4);
  spec.mutable_rollout()->set_max_attempts(3);
  spec.mutable_rollout()->mutable_lease_timeout()->set_seconds(30);
  v1::ScorerSpec& scorer = *spec.mutable_reward()->add_scorers();
  scorer.set_type("exact_match");
  scorer.set_max_retries(1);
  spec.mutable_reward()->set_max_failure_share(0.5);
  spec.mutable_reward()->mutable_lease_timeout()->set_seconds(30);
  spec.mutable_train()->set_total_steps(100'000);
  spec.mutable_train()->set_prompts_per_step(2);
  spec.mutable_resources()->set_learner_ranks(1);
  spec.mutable_resources()->mutable_stall_timeout()->set_seconds(60);
  spec.mutable_resources()->mutable_learner_timeout()->set_seconds(300);
  return spec;
}

inline std::shared_ptr<const coordinator::PreparedJob> SmallPreparedJob(v1::JobSpec spec) {
  auto job = std::make_shared<coordinator::PreparedJob>();
  job->spec = std::make_shared<const v1::JobSpec>(std::move(spec));
  job->vocab_size = 100;
  job->stop_token_ids = {99};
  for (int64_t i = 0; i < 4; ++i) {
    coordinator::PreparedRow& row = job->data.rows.emplace_back();
    row.json = "{}";
    row.prompt = {1, 2};
    job->data.usable.push_back(i);
  }
  return job;
}

inline coordinator::JobRecord SmallJobRecord(const coordinator::PreparedJob& job) {
  return {.job = 1, .request_id = "request", .spec = job.spec, .run_dir = "/runs/small-j000001"};
}

}  // namespace rollcall::testing
