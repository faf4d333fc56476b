#include "services/coordinator/worker/learner_group.h"

#include <string>

#include "tests/support/catch.h"

namespace rollcall::coordinator {
namespace {

v1::GroupMember Member(const std::string& worker_id, int64_t epoch, int32_t rank) {
  v1::GroupMember member;
  member.set_job_id("j000001");
  member.set_worker_id(worker_id);
  member.set_epoch(epoch);
  member.set_rank(rank);
  return member;
}

LearnerGroup TwoRanks() {
  LearnerGroup group;
  group.Form({{.worker_id = "w1", .name = "learner-0"}, {.worker_id = "w2", .name = "learner-1"}},
             /*resume_step=*/4);
  return group;
}

void CheckFenced(LearnerGroup& group, const v1::GroupMember& member, const std::string& reason) {
  const Status status = group.Check(member);
  INFO(status.ToString());
  CHECK(status.code() == StatusCode::kAborted);
  CHECK(Message(status).starts_with("fenced: "));
  CHECK(Message(status).find(reason) != std::string::npos);
}

TEST_CASE("LearnerGroup: only its ranks in its epoch may call", "[unit][coordinator]") {
  LearnerGroup group;
  CheckFenced(group, Member("w1", 0, 0), "has not formed");
  group = TwoRanks();
  CHECK(group.active());
  CHECK(group.epoch() == 1);
  CHECK(group.resume_step() == 4);
  CHECK(group.last_step() == 4);
  REQUIRE_OK(group.Check(Member("w1", 1, 0)));
  CHECK(group.rank(0).heard);
  CHECK_FALSE(group.rank(1).heard);
  CheckFenced(group, Member("w1", 1, 1), "belongs to another process");
  CheckFenced(group, Member("w1", 1, 2), "belongs to another process");
  CheckFenced(group, Member("w1", 1, -1), "belongs to another process");
  CheckFenced(group, Member("w9", 1, 0), "belongs to another process");
  CheckFenced(group, Member("w1", 2, 0), "epoch 2 is over, 1 runs");
  CHECK_FALSE(group.rank(1).heard);
}

TEST_CASE("LearnerGroup: a fenced epoch is told why it ended; the next has another number",
          "[unit][coordinator]") {
  LearnerGroup group = TwoRanks();
  group.Fence("rank 1 (learner-1) missed its heartbeats");
  CHECK_FALSE(group.active());
  CheckFenced(group, Member("w1", 1, 0), "missed its heartbeats");
  group.SetEpoch(7);  // as a restarted coordinator does
  group.Form({{.worker_id = "w3", .name = "learner-0"}}, 5);
  CHECK(group.epoch() == 8);
  CHECK(group.fence_reason().empty());
  CheckFenced(group, Member("w1", 1, 0), "epoch 1 is over, 8 runs");
  REQUIRE_OK(group.Check(Member("w3", 8, 0)));
}

TEST_CASE("LearnerGroup: a rank that finished is free for another job", "[unit][coordinator]") {
  LearnerGroup group = TwoRanks();
  CHECK(group.RankOf("w2") == 1);
  group.rank(1).finished = true;
  CHECK_FALSE(group.RankOf("w2").has_value());
  CHECK_FALSE(group.RankOf("w9").has_value());
  REQUIRE_OK(group.Check(Member("w2", 1, 1)));  // its last calls may still come
}

TEST_CASE("LearnerGroup: the store keeps values for one epoch", "[unit][coordinator]") {
  LearnerGroup group = TwoRanks();
  REQUIRE_OK(group.StoreSet("key", "value"));
  REQUIRE(group.StoreGet("key") != nullptr);
  CHECK(*group.StoreGet("key") == "value");
  CHECK(group.StoreGet("other") == nullptr);
  CHECK(*group.StoreAdd("count", 2) == 2);
  CHECK(*group.StoreAdd("count", -5) == -3);
  CHECK(*group.StoreGet("count") == "-3");
  CHECK(Message(group.StoreAdd("key", 1).status()) == "key 'key' holds no number");
  REQUIRE_OK(group.StoreSet("big", "9223372036854775807"));
  CHECK(Message(group.StoreAdd("big", 1).status()) == "key 'big' would overflow");
  group.Fence("over");
  CHECK(group.StoreGet("key") == nullptr);
}

TEST_CASE("LearnerGroup: the store is bounded, and overwriting takes no room",
          "[unit][coordinator]") {
  LearnerGroup group = TwoRanks();
  CHECK(group.StoreSet("", "v").code() == StatusCode::kInvalidArgument);
  CHECK(group.StoreSet(std::string(1025, 'k'), "v").code() == StatusCode::kInvalidArgument);
  const std::string value(64 << 10, 'v');
  CHECK(group.StoreSet("k", value + "v").code() == StatusCode::kInvalidArgument);
  Status status;
  int count = 0;
  while (status.ok() && count < 5000) status = group.StoreSet("k" + std::to_string(count++), value);
  CHECK(status.code() == StatusCode::kResourceExhausted);
  CHECK(count > 1000);
  for (int i = 0; i < 100; ++i) REQUIRE_OK(group.StoreSet("k0", value));
  REQUIRE_OK(group.StoreSet("k0", ""));
  REQUIRE_OK(group.StoreSet("small", "v"));
  group.Fence("over");
  group.Form({{.worker_id = "w1"}}, 0);
  REQUIRE_OK(group.StoreSet("k0", value));
}

}  // namespace
}  // namespace rollcall::coordinator
