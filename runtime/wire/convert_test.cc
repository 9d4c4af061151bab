#include "runtime/wire/convert.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using testing::HasSubstr;

constexpr int64_t kUnit = sched::Amount::kUnit;

v1::Entry EntryOf(const std::string& key, const std::string& value) {
  v1::Entry entry;
  entry.set_key(key);
  entry.set_value(value);
  return entry;
}

// UX.md's request: a spot L4, after two minutes any L4, else two of T4 or P100.
v1::RequestSpec Spec() {
  v1::RequestSpec spec;
  spec.set_bundles(2);
  spec.set_priority(-3);
  spec.set_fail_if_infeasible(true);
  spec.set_name("Score");
  v1::Choice* choice = spec.add_choices();
  *choice->add_selector() = EntryOf("ray.io/accelerator-type", "L4");
  *choice->add_selector() = EntryOf("ray.io/market-type", "spot");
  choice->mutable_resources()->set_cpus(kUnit);
  choice->mutable_resources()->set_gpus(kUnit);
  choice->set_advance_on(7);
  choice = spec.add_choices();
  *choice->add_selector() = EntryOf("ray.io/accelerator-type", "in(P100,T4)");
  choice->mutable_resources()->set_gpus(2 * kUnit);
  v1::NamedAmount* license = choice->mutable_resources()->add_custom();
  license->set_name("license");
  license->set_amount(5000);
  choice->set_after_ns(120'000'000'000);
  choice->set_advance_on(15);
  return spec;
}

v1::HeldLease Held() {
  v1::HeldLease held;
  held.mutable_lease()->set_bundle(1);
  *held.mutable_spec() = Spec();
  held.mutable_placement()->set_choice(1);
  *held.mutable_placement()->mutable_resources() = Spec().choices(1).resources();
  for (const uint32_t device : {0u, 3u}) {
    v1::DeviceShare* const share = held.mutable_placement()->add_devices();
    share->set_device(device);
    share->set_amount(kUnit);
  }
  return held;
}

template <typename T>
std::string MessageOf(const absl::StatusOr<T>& result) {
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(result.status().message());
}

TEST(ConvertTest, SpecSurvivesTheWire) {
  const absl::StatusOr<sched::RequestSpec> spec = FromProto(Spec(), "app");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->owner, "app");
  EXPECT_EQ(spec->bundles, 2);
  EXPECT_EQ(spec->priority, -3);
  EXPECT_TRUE(spec->fail_if_infeasible);
  ASSERT_EQ(spec->choices.size(), 2u);
  EXPECT_EQ(spec->choices[1].after, absl::Minutes(2));
  EXPECT_EQ(spec->choices[1].advance_on, 15);
  EXPECT_EQ(spec->choices[1].resources.custom.at("license"), 5000);
  EXPECT_EQ(spec->choices[0].selector.ToMap().at("ray.io/market-type"), "spot");
  EXPECT_EQ(ToProto(*spec).SerializeAsString(), Spec().SerializeAsString());
}

TEST(ConvertTest, SpecErrorsNameFieldAndValue) {
  v1::RequestSpec bad = Spec();
  bad.mutable_choices(1)->mutable_resources()->set_cpus(-5);
  EXPECT_THAT(MessageOf(FromProto(bad, "")), HasSubstr("choices[1].resources."));
  bad = Spec();
  bad.mutable_choices(1)->set_after_ns(-1);
  EXPECT_THAT(MessageOf(FromProto(bad, "")),
              HasSubstr("choices[1].after_ns is -1; allowed: 0 and more"));
  bad = Spec();
  bad.mutable_choices(0)->set_advance_on(16);
  EXPECT_THAT(MessageOf(FromProto(bad, "")), HasSubstr("choices[0].advance_on is 16"));
  bad = Spec();
  bad.mutable_choices(0)->mutable_selector(0)->set_value("in(a,");
  EXPECT_THAT(MessageOf(FromProto(bad, "")),
              HasSubstr("choices[0].label selector \"ray.io/accelerator-type\""));
  bad = Spec();
  *bad.mutable_choices(0)->add_selector() = EntryOf("ray.io/market-type", "x");
  EXPECT_THAT(MessageOf(FromProto(bad, "")), HasSubstr("\"ray.io/market-type\" is there twice"));
  bad = Spec();
  *bad.mutable_choices(1)->mutable_resources()->add_custom() = bad.choices(1).resources().custom(0);
  EXPECT_THAT(MessageOf(FromProto(bad, "")), HasSubstr("\"license\" is there twice"));
  bad = Spec();
  bad.set_bundles(4'000'000'000);
  EXPECT_THAT(MessageOf(FromProto(bad, "")), HasSubstr("bundles is 4000000000"));
  for (const auto change :
       {+[](v1::RequestSpec& spec) { spec.set_bundles(0); },
        +[](v1::RequestSpec& spec) { spec.clear_choices(); },
        +[](v1::RequestSpec& spec) { spec.set_name(std::string(5000, 'x')); }}) {
    bad = Spec();
    change(bad);
    EXPECT_NE(MessageOf(FromProto(bad, "")), "");
  }
}

TEST(ConvertTest, NodeAffinitySurvivesTheWire) {
  for (const bool soft : {false, true}) {
    v1::RequestSpec proto = Spec();
    proto.mutable_affinity()->set_node("n1");
    proto.mutable_affinity()->set_soft(soft);
    const absl::StatusOr<sched::RequestSpec> spec = FromProto(proto, "app");
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->affinity, (sched::NodeAffinity{.node = "n1", .soft = soft}));
    EXPECT_FALSE(*spec == *FromProto(Spec(), "app"));  // Another class.
    EXPECT_EQ(ToProto(*spec).SerializeAsString(), proto.SerializeAsString());
  }
  v1::RequestSpec bad = Spec();
  bad.mutable_affinity()->set_soft(true);
  EXPECT_THAT(MessageOf(FromProto(bad, "")), HasSubstr("affinity.node.size() is 0"));
  bad.mutable_affinity()->set_node(std::string(257, 'n'));
  EXPECT_THAT(MessageOf(FromProto(bad, "")), HasSubstr("affinity.node.size() is 257"));
  bad.mutable_affinity()->set_node("n1");
  bad.add_strategy("pack");
  EXPECT_THAT(MessageOf(FromProto(bad, "")),
              HasSubstr("node affinity does not go with a strategy"));
}

TEST(ConvertTest, LabelsSurviveTheWire) {
  const sched::Labels labels = {{"ray.io/accelerator-type", "L4"}, {"zone", ""}};
  EXPECT_EQ(*LabelsFromProto(LabelsToProto(labels)), labels);
  Entries bad = LabelsToProto(labels);
  *bad.Add() = EntryOf("zone", "b");
  EXPECT_EQ(MessageOf(LabelsFromProto(bad)), "label \"zone\" is there twice");
  bad = LabelsToProto(labels);
  *bad.Add() = EntryOf("-bad", "b");
  EXPECT_THAT(MessageOf(LabelsFromProto(bad)), HasSubstr("-bad"));
}

TEST(ConvertTest, NodeResourcesCountTheirDevices) {
  v1::NodeResources proto;
  proto.set_cpus(8 * kUnit);
  proto.set_memory_bytes(int64_t{8} << 30);
  proto.add_gpus()->set_id("GPU-1");
  proto.add_gpus()->set_id("GPU-2");
  const absl::StatusOr<sched::NodeResources> total = FromProto(proto);
  ASSERT_TRUE(total.ok()) << total.status();
  EXPECT_EQ(total->gpu_devices, 2);
  EXPECT_EQ(ToProto(*total).gpus_size(), 2);
  proto.set_cpus(-1);
  EXPECT_THAT(MessageOf(FromProto(proto)), HasSubstr("cpu"));
}

TEST(ConvertTest, HeldLeaseSurvivesTheWire) {
  const absl::StatusOr<sched::HeldLease> held = FromProto(Held(), NodeId{7}, "app");
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(held->placement.node, NodeId{7});
  EXPECT_EQ(held->placement.devices, (sched::GpuShares{{0, kUnit}, {3, kUnit}}));
  EXPECT_EQ(held->bundle, 1);
  EXPECT_EQ(ToProto(*held, Held().lease(), false).SerializeAsString(), Held().SerializeAsString());
}

TEST(ConvertTest, HeldLeaseThatContradictsItselfIsRefused) {
  v1::HeldLease bad = Held();
  bad.mutable_placement()->set_choice(2);
  EXPECT_EQ(MessageOf(FromProto(bad, NodeId{1}, "")), "placement.choice is 2; allowed: 0 to 1");
  bad = Held();
  bad.mutable_placement()->set_choice(0);
  EXPECT_THAT(MessageOf(FromProto(bad, NodeId{1}, "")), HasSubstr("its choice needs"));
  bad = Held();
  bad.mutable_placement()->mutable_devices(1)->set_device(0);
  EXPECT_THAT(MessageOf(FromProto(bad, NodeId{1}, "")),
              HasSubstr("placement.devices[1].device is 0"));
  bad = Held();
  bad.mutable_placement()->mutable_devices(1)->set_amount(kUnit + 1);
  EXPECT_THAT(MessageOf(FromProto(bad, NodeId{1}, "")), HasSubstr("devices[1].amount is 10001"));
  bad = Held();
  bad.mutable_placement()->mutable_devices()->RemoveLast();
  EXPECT_THAT(MessageOf(FromProto(bad, NodeId{1}, "")), HasSubstr("devices' sum is 10000"));
  bad = Held();
  bad.mutable_lease()->set_bundle(2);
  EXPECT_EQ(MessageOf(FromProto(bad, NodeId{1}, "")), "lease.bundle is 2; allowed: 0 to 1");
}

}  // namespace
}  // namespace muster
