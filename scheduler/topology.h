// Where nodes lie to each other: the domains of each topology label in use (the nodes that have one
// value of it), and what is free of each domain, kept as leases come and go, so that a group looks
// at few nodes.
//
// A domain is known by its first node, the one of the lowest id; that is also the order of domains.
// A node without the label is in none of its domains.
//
// Invariants: a key's domains hold each node that has the label once, in order of id; a domain's
//   buckets hold its usable nodes by their empty devices.
// Cost: a change of what is free, O(keys in use); a change of nodes or labels, O(nodes) once a
//   group is placed after it. Nothing where no key is in use.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/string_view.h"
#include "scheduler/node.h"

namespace muster::sched {

// A set of the positions 0 to n - 1, walked in order.
class PositionSet {
 public:
  void Resize(size_t positions) { words_.resize((positions + 63) / 64); }
  void Insert(int position) { words_[position >> 6] |= uint64_t{1} << (position & 63); }
  void Erase(int position) { words_[position >> 6] &= ~(uint64_t{1} << (position & 63)); }
  bool Contains(int position) const { return (words_[position >> 6] >> (position & 63) & 1) != 0; }
  int Next(int from) const;  // The first position at or after `from`; -1: none.

 private:
  std::vector<uint64_t> words_;
};

struct Domain {
  struct Bucket {
    int count = 0;
    PositionSet nodes{};
  };
  std::string value{};            // Of the label; empty for the whole cluster.
  std::vector<Node*> nodes{};     // In order of id, unusable ones included.
  std::vector<Bucket> buckets{};  // [0]: usable nodes without devices; [1 + n]: with n empty ones.
  int64_t empty_devices = 0;      // Of usable nodes.

  NodeId first() const { return nodes.front()->id; }
};

class Topology {
 public:
  // The hierarchy that ranks follow, labels from the coarsest to the finest.
  explicit Topology(std::vector<std::string> hierarchy) : hierarchy_(std::move(hierarchy)) {}

  // Nodes, as they come, change and go; `nodes` are all there are, in order of id.
  // `grew`: a node came, and nothing else changed.
  void NodesChanged(bool grew) {
    fresh_ = false;
    ++version_;
    if (!grew) shrunk_ = version_;
  }
  int64_t version() const { return version_; }  // Of the nodes and labels there are.
  int64_t shrunk() const { return shrunk_; }    // When they did more than grow, last.
  // What is free of the node, or whether it may be used, has changed.
  void Update(const Node& node) {
    if (fresh_ && !keys_.empty()) UpdateDomains(node);
  }

  // The number of a key, for use until Release(); "" has one domain, the whole cluster.
  int Acquire(const std::string& label);
  void Release(int key);
  void UseHierarchy();  // From now on Before() knows it.

  // Brings the domains up to date; the functions below read what it made.
  void Refresh(const std::vector<Node*>& nodes);
  const std::vector<Domain>& domains(int key) const { return keys_[key].domains; }
  const std::string& label(int key) const { return keys_[key].label; }
  // Null: the node does not have the label.
  const Domain* DomainOf(int key, const Node& node) const;

  // Whether `a` comes before `b` in rank: by the domains of the hierarchy, then by id.
  bool Before(const Node& a, const Node& b) const;

  void CheckInvariants(const std::vector<Node*>& nodes) const;

 private:
  struct Place {
    int domain = -1;
    int position = 0;
    int bucket = -1;  // -1: it is not usable.
  };
  struct Key {
    std::string label{};
    int users = 0;                  // Of what is free of its domains.
    bool hierarchy = false;         // It stays.
    std::vector<Domain> domains{};  // In order of their first nodes.
    std::vector<Place> places{};    // By Node::topology_slot.
  };
  void UpdateDomains(const Node& node);
  static int BucketOf(const Node& node);
  static void Fill(Key& key, const std::vector<Node*>& nodes);

  const std::vector<std::string> hierarchy_;
  std::vector<int> hierarchy_keys_;  // Once it is in use.
  std::vector<Key> keys_;
  bool fresh_ = false;
  int64_t version_ = 0;
  int64_t shrunk_ = 0;
};

}  // namespace muster::sched
