// The driver of the placement groups' tests: says what happens to a group, a line a fact.
//   placement_groups STRATEGY BUNDLES FILE
// reserves BUNDLES bundles of one CPU, runs a task in each, says "bundle I on NODE", waits until
// FILE is there or says anew where the bundles are whenever that changes, and removes the group.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "muster/muster.h"

namespace {

std::string Where() { return muster::CurrentTask().node; }

std::string PlacesOf(const muster::PlacementGroup& group) {
  std::string text;
  for (const muster::BundlePlace& place : group.Bundles()) text += " " + place.node;
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  muster::Init(argc, argv);
  if (argc < 4) return 2;
  const muster::PlacementGroup group(
      {.bundles = {{.count = std::atoi(argv[2])}}, .strategy = {argv[1]}, .name = "pairs"});
  printf("group %s\n", group.id().c_str());
  if (const absl::Status ready = group.Ready(absl::Seconds(60)); !ready.ok()) {
    printf("not ready: %s\n", ready.ToString().c_str());
    return 1;
  }
  std::string places;
  while (!std::filesystem::exists(argv[3])) {
    const std::string now = PlacesOf(group);
    if (now != places && group.Ready(absl::ZeroDuration()).ok()) {
      places = now;
      printf("placed:%s\n", places.c_str());
      for (int i = 0; i < std::atoi(argv[2]); ++i) {
        const auto ref =
            muster::Task<Where>({.placement_group = group, .bundle_index = i}).Remote();
        const absl::StatusOr<std::string> node = muster::Get(ref, absl::Seconds(60));
        printf("bundle %d on %s\n", i,
               node.ok() ? node->c_str() : node.status().ToString().c_str());
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  (void)group.Remove();
  const auto late = muster::Task<Where>({.placement_group = group, .bundle_index = 0}).Remote();
  printf("after: %s\n", muster::Get(late, absl::Seconds(60)).status().ToString().c_str());
  return 0;
}
