#include "scheduler/topology.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/numeric/bits.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"

namespace muster::sched {

const std::vector<std::string>& DefaultHierarchy() {
  static const auto* const labels = new std::vector<std::string>{
      "ray.io/availability-region", "ray.io/availability-zone", "rack", "ray.io/gpu-domain"};
  return *labels;
}

int PositionSet::Next(int from) const {
  size_t word = static_cast<size_t>(from) >> 6;
  if (word >= words_.size()) return -1;
  uint64_t bits = words_[word] & (~uint64_t{0} << (from & 63));
  while (bits == 0) {
    if (++word == words_.size()) return -1;
    bits = words_[word];
  }
  return static_cast<int>(word * 64) + absl::countr_zero(bits);
}

void Topology::UseHierarchy() {
  if (!hierarchy_keys_.empty()) return;
  for (const std::string& label : hierarchy_) {
    const int key = Acquire(label);
    --keys_[key].users;
    keys_[key].hierarchy = true;
    hierarchy_keys_.push_back(key);
  }
}

int Topology::Acquire(const std::string& label) {
  fresh_ = false;
  int free = -1;
  for (size_t i = 0; i < keys_.size(); ++i) {
    const bool in_use = keys_[i].users > 0 || keys_[i].hierarchy;
    if (in_use && keys_[i].label == label) {
      ++keys_[i].users;
      return static_cast<int>(i);
    }
    if (!in_use) free = static_cast<int>(i);
  }
  if (free < 0) {
    free = static_cast<int>(keys_.size());
    keys_.emplace_back();
  }
  keys_[free].label = label;
  keys_[free].users = 1;
  return free;
}

void Topology::Release(int key) {
  MUSTER_CHECK(keys_[key].users > 0);
  if (--keys_[key].users == 0 && !keys_[key].hierarchy) keys_[key] = Key{};
}

int Topology::BucketOf(const Node& node) {
  // Hidden or not: that lasts for one search, which looks at it by itself.
  if (!node.reachable || node.draining || node.set_aside) return -1;
  return node.total.gpu_devices == 0 ? 0 : 1 + node.free.devices().empty_devices();
}

void Topology::Fill(Key& key, const std::vector<Node*>& nodes) {
  key.domains.clear();
  key.places.assign(nodes.size(), Place{});
  absl::flat_hash_map<absl::string_view, int> by_value;  // Looked up only.
  for (Node* node : nodes) {
    absl::string_view value;
    if (!key.label.empty()) {
      const std::string* const label = node->labels.Find(key.label);
      if (label == nullptr) continue;
      value = *label;
    }
    const auto [at, is_new] = by_value.emplace(value, static_cast<int>(key.domains.size()));
    if (is_new) {
      key.domains.emplace_back();
      key.domains.back().value = std::string(value);
    }
    Domain& domain = key.domains[at->second];
    key.places[node->topology_slot] = {.domain = at->second,
                                       .position = static_cast<int>(domain.nodes.size())};
    domain.nodes.push_back(node);
    const size_t buckets = static_cast<size_t>(2 + node->total.gpu_devices);
    if (domain.buckets.size() < buckets) domain.buckets.resize(buckets);
  }
  for (Domain& domain : key.domains) {
    for (Domain::Bucket& bucket : domain.buckets) bucket.nodes.Resize(domain.nodes.size());
  }
}

void Topology::Refresh(const std::vector<Node*>& nodes) {
  if (fresh_) return;
  for (size_t i = 0; i < nodes.size(); ++i) nodes[i]->topology_slot = static_cast<int>(i);
  for (Key& key : keys_) {
    if (key.users > 0 || key.hierarchy) Fill(key, nodes);
  }
  for (const Node* node : nodes) UpdateDomains(*node);
  fresh_ = true;
}

void Topology::UpdateDomains(const Node& node) {
  const int bucket = BucketOf(node);
  for (Key& key : keys_) {
    if (key.users == 0) continue;
    Place& place = key.places[node.topology_slot];
    if (place.domain < 0 || place.bucket == bucket) continue;
    Domain& domain = key.domains[place.domain];
    if (place.bucket >= 0) {
      Domain::Bucket& from = domain.buckets[place.bucket];
      --from.count;
      from.nodes.Erase(place.position);
      domain.empty_devices -= std::max(place.bucket - 1, 0);
    }
    if (bucket >= 0) {
      Domain::Bucket& to = domain.buckets[bucket];
      ++to.count;
      to.nodes.Insert(place.position);
      domain.empty_devices += std::max(bucket - 1, 0);
    }
    place.bucket = bucket;
  }
}

const Domain* Topology::DomainOf(int key, const Node& node) const {
  const int domain = keys_[key].places[node.topology_slot].domain;
  return domain < 0 ? nullptr : &keys_[key].domains[domain];
}

bool Topology::Before(const Node& a, const Node& b) const {
  for (const int key : hierarchy_keys_) {
    const Domain* const of_a = DomainOf(key, a);
    const Domain* const of_b = DomainOf(key, b);
    if (of_a == of_b) continue;
    const NodeId first_a = of_a == nullptr ? a.id : of_a->first();
    const NodeId first_b = of_b == nullptr ? b.id : of_b->first();
    return first_a < first_b;
  }
  return a.id < b.id;
}

void Topology::CheckInvariants(const std::vector<Node*>& nodes) const {
  if (!fresh_) return;
  for (const Key& key : keys_) {
    if (key.users == 0) continue;
    Key fresh{.label = key.label, .users = 1};
    Fill(fresh, nodes);
    MUSTER_CHECK(fresh.domains.size() == key.domains.size());
    for (size_t i = 0; i < key.domains.size(); ++i) {
      const Domain& domain = key.domains[i];
      MUSTER_CHECK(domain.value == fresh.domains[i].value);
      MUSTER_CHECK(domain.nodes == fresh.domains[i].nodes);
      int64_t empty = 0;
      for (size_t position = 0; position < domain.nodes.size(); ++position) {
        const int bucket = BucketOf(*domain.nodes[position]);
        for (size_t b = 0; b < domain.buckets.size(); ++b) {
          MUSTER_CHECK(domain.buckets[b].nodes.Contains(static_cast<int>(position)) ==
                       (static_cast<int>(b) == bucket));
        }
        empty += std::max(bucket - 1, 0);
      }
      MUSTER_CHECK(domain.empty_devices == empty);
    }
  }
}

}  // namespace muster::sched
