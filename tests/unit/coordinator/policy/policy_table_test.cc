#include "services/coordinator/policy/policy_table.h"

#include <memory>
#include <string>

#include "tests/support/catch.h"

namespace rollcall::coordinator {
namespace {

std::shared_ptr<const v1::WeightManifest> Manifest(int64_t version, const std::string& hash = "") {
  auto manifest = std::make_shared<v1::WeightManifest>();
  manifest->set_policy_version(version);
  manifest->set_hash(hash);
  return manifest;
}

TEST_CASE("PolicyTable: an exact version, or the newest that is new enough",
          "[unit][coordinator]") {
  PolicyTable table;
  CHECK(table.newest() == -1);
  CHECK(table.newest_known() == -1);
  CHECK(table.Find(0, /*exact=*/false) == nullptr);
  table.Offer(Manifest(3));
  table.Offer(Manifest(5));
  CHECK(table.Find(3, true)->policy_version() == 3);
  CHECK(table.Find(4, true) == nullptr);
  CHECK(table.Find(3, false)->policy_version() == 5);
  CHECK(table.Find(5, false)->policy_version() == 5);
  CHECK(table.Find(6, false) == nullptr);
}

TEST_CASE("PolicyTable: a version offered again replaces its manifest", "[unit][coordinator]") {
  PolicyTable table;
  table.Offer(Manifest(3, "old"));
  table.Offer(Manifest(3, "new"));
  CHECK(table.Find(3, true)->hash() == "new");
}

TEST_CASE("PolicyTable: old manifests go, and all of them with their learners",
          "[unit][coordinator]") {
  PolicyTable table;
  for (int64_t version = 0; version < 10; ++version) table.Offer(Manifest(version));
  CHECK_FALSE(table.available(5));
  CHECK(table.available(6));
  table.WithdrawAll();
  CHECK(table.newest() == -1);
  CHECK(table.newest_known() == 9);
  table.Offer(Manifest(8));  // a group that resumed
  CHECK(table.newest() == 8);
  CHECK(table.newest_known() == 9);
}

TEST_CASE("PolicyTable: receipts belong to a name and a version, and outlive the manifests",
          "[unit][coordinator]") {
  PolicyTable table;
  CHECK_FALSE(table.HasReceipt("rollout-0", 1));
  table.RecordReceipt("rollout-0", 1);
  CHECK(table.HasReceipt("rollout-0", 1));
  CHECK_FALSE(table.HasReceipt("rollout-0", 2));
  CHECK_FALSE(table.HasReceipt("rollout-1", 1));
  table.WithdrawAll();
  CHECK(table.HasReceipt("rollout-0", 1));
}

}  // namespace
}  // namespace rollcall::coordinator
